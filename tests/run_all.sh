#!/usr/bin/env bash
# Run every test program and every transcript: a line each, the output of those that fail, reasons of those that skip.
# Exit code 77 is a skip; 78 leaves a program out of a quick run, uncounted.  The last line: "N passed, N failed, N skipped".
# usage: tests/run_all.sh BUILD_FOLDER [--quick]
set -uo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." || exit 1
build=$1 mode=${2:-}
limit=900
[ -z "$mode" ] || limit=300
case $build in
/*) BIN=$build/fathom ;;
*) BIN=$PWD/$build/fathom ;;
esac
export BIN
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT
passed=0 failed=0 skipped=0

show_skips() {
    local n
    grep '^ *SKIP' "$out" | head -n 5
    n=$(grep -c '^ *SKIP' "$out")
    [ "$n" -le 5 ] || printf 'SKIP … and %d more\n' $((n - 5))
}

run_one() { # name, command…
    local name=$1 start=$EPOCHREALTIME rc=0 time
    shift
    timeout -k 5 "$limit" "$@" ${mode:+"$mode"} >"$out" 2>&1 </dev/null || rc=$?
    time=$(((${EPOCHREALTIME/./} - ${start/./}) / 1000))
    case $rc in
    0)
        passed=$((passed + 1))
        printf 'ok    %-24s %6d ms\n' "$name" "$time"
        show_skips
        ;;
    77)
        skipped=$((skipped + 1))
        printf 'skip  %s: %s\n' "$name" "$(head -n 1 "$out")"
        ;;
    78) printf -- '-     %s: not in a quick run\n' "$name" ;;
    *)
        failed=$((failed + 1))
        printf 'FAIL  %s (exit code %d)\n' "$name" "$rc"
        tail -n 60 "$out"
        ;;
    esac
}

for source in tests/check_*.c tests/test_*.c; do
    name=$(basename "$source" .c)
    [ ! -e "$source" ] || run_one "$name" "$build/tests/$name"
done
for script in tests/cli/*.sh; do
    [ "$script" = tests/cli/common.sh ] || run_one "cli/$(basename "$script" .sh)" bash "$script"
done
for script in tests/clients/*.sh; do
    run_one "clients/$(basename "$script" .sh)" bash "$script"
done
printf '%d passed, %d failed, %d skipped\n' $passed $failed $skipped
[ $failed = 0 ]
