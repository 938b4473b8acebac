# Shared by ./run and ./check: packages and building.  Sourced, with root set to the source tree.
# Everything said here goes to standard error.
# shellcheck shell=bash disable=SC2034,SC2154

# kind  name  Debian packages
packages_run='
command gcc gcc libc6-dev
command make make
command pkg-config pkg-config
library jansson libjansson-dev
library libpcre2-8 libpcre2-dev
library libutf8proc libutf8proc-dev
library libedit libedit-dev
library libzstd libzstd-dev
library libmicrohttpd libmicrohttpd-dev
library libcurl libcurl4-openssl-dev
library libcrypto libssl-dev
command gnuplot gnuplot-nox
'
packages_check='
command clang clang
command clang-format clang-format
command python3 python3
command zstd zstd
library cmocka libcmocka-dev
python_module pip python3-pip
clang_runtime - libclang-rt-14-dev
'
# for make check-arm: ./check does without, the build machine does not
packages_arm='
command aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross
command qemu-aarch64 qemu-user
'

say() { printf 'fathom: %s\n' "$*" >&2; }

is_there() { # kind name
    case $1 in
    command) command -v "$2" >/dev/null ;;
    library) pkg-config --exists "$2" 2>/dev/null ;;
    python_module) python3 -c "import importlib.util as u, sys; sys.exit(not u.find_spec('$2'))" 2>/dev/null ;;
    clang_runtime) command -v clang >/dev/null && [ -n "$(find "$(clang --print-runtime-dir)" -name '*fuzzer*' 2>/dev/null)" ] ;;
    esac
}

missing_packages() { # the list on standard input
    local kind name packages
    while read -r kind name packages; do
        [ -z "$kind" ] || is_there "$kind" "$name" || printf '%s ' "$packages"
    done
}

need_packages() { # list…
    local missing sudo=
    missing=$(printf '%s\n' "$@" | missing_packages)
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null; then
        say "install packages: $missing: there is no apt-get here, please install what they hold by hand"
        exit 1
    fi
    if [ "$(id -u)" != 0 ]; then
        sudo=sudo
        if ! command -v sudo >/dev/null; then
            say "install packages: $missing: this needs root, and there is no sudo; as root: apt-get install $missing"
            exit 1
        fi
    fi
    say "installing $missing"
    # shellcheck disable=SC2086 # both are lists
    {
        $sudo apt-get -q update || say "apt-get update failed; trying with the lists at hand"
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends $missing
    } >&2 </dev/null || { say "install packages: $missing: apt-get failed"; exit 1; }
}

# Under a lock, so that two at once wait for each other.  Arguments are make's.
build() {
    mkdir -p "$root/build"
    (
        flock 9
        env -u MAKEFLAGS -u MAKELEVEL make -s -C "$root" -j"$(nproc)" "$@"
    ) 9>"$root/build/.lock" >&2 </dev/null
}
