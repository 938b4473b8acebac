# shellcheck shell=bash disable=SC2034
# Sourced by every transcript.  BIN is the program under test.
#
#   t CODE ARGS…       run fathom ARGS with $input (default: nothing) on standard input; demand the exit code
#   out TEXT           standard output is exactly TEXT (printf escapes work)
#   err TEXT           standard error is exactly TEXT and a newline
#   err_has TEXT       standard error contains TEXT
#   silent             standard error is empty
#   failed_well        standard output is empty, standard error is one `fathom: WHAT: WHERE: WHY` and perhaps a hint
#   serve OPTIONS…     a server in the background: its process in $pid, its port in $port, what it says in the file served
#   smollm2_with_tools model.gguf: SmolLM2 in a chat format that has words for tools; without SmolLM2 the test is skipped
#   train_small        m/model.gguf, a model of two steps on a text that never changes, so that its answers do not either
set -u
: "${BIN:?the program to test}"
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
model=$root/models/default.gguf
golden=$root/tests/golden
quick=0
[ "${1:-}" != --quick ] || quick=1
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
cd "$tmp" || exit 1
export NO_COLOR=1 XDG_STATE_HOME=$tmp/state
input=
failures=0

complain() {
    failures=$((failures + 1))
    printf 'in line %s: fathom %s\n  %s\n' "${BASH_LINENO[1]}" "$last" "$1"
    head -c 2000 "$tmp/out" | tr -cd '[:print:]\n' | sed 's/^/  out: /'
    head -c 2000 "$tmp/err" | tr -cd '[:print:]\n' | sed 's/^/  err: /'
}

t() {
    local want=$1 code=0
    shift
    last="$*"
    printf '%b' "$input" | timeout 100 "$BIN" "$@" >"$tmp/out" 2>"$tmp/err" || code=$?
    [ "$code" = "$want" ] || complain "exit code $code, not $want"
}

out() {
    printf '%b' "$1" >"$tmp/want"
    cmp -s "$tmp/want" "$tmp/out" || complain "standard output is not '$1'"
}

err() {
    printf '%s\n' "$1" >"$tmp/want"
    cmp -s "$tmp/want" "$tmp/err" || complain "standard error is not '$1'"
}

err_has() { grep -qF -- "$1" "$tmp/err" || complain "standard error does not say '$1'"; }

silent() { [ ! -s "$tmp/err" ] || complain 'something on standard error'; }

out_has() { grep -qF -- "$1" "$tmp/out" || complain "standard output does not say '$1'"; }

failed_well() {
    [ ! -s "$tmp/out" ] || complain 'standard output is not empty'
    [ "$(grep -cE '^fathom: [^:]+: .+: .+' "$tmp/err")" = 1 ] || complain 'not one line "fathom: WHAT: WHERE: WHY"'
    [ "$(grep -cvE '^(fathom|hint): ' "$tmp/err")" = 0 ] || complain 'standard error says more than the failure'
}

same() { # two texts
    [ "$1" = "$2" ] || complain "'$1' is not '$2'"
}

need_model() {
    [ "$quick" = 0 ] || exit 78
    if [ ! -f "$model" ]; then
        echo 'models/default.gguf is not there'
        exit 77
    fi
}

smollm2_with_tools() {
    if [ ! -e "${FATHOM_SMOLLM2:-}" ]; then
        echo 'SmolLM2 is not here (tests/fetch_smollm2.sh)'
        exit 77
    fi
    [ $quick = 0 ] || exit 78
    # its own chat format knows no tools: the file says that it is Qwen 2.5's, whose marks it has
    python3 "$root/tests/server/retemplate.py" "$FATHOM_SMOLLM2" model.gguf \
        '<|im_start|> You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' \
        '<jupyter_code>=<|fim_prefix|>' '<jupyter_text>=<|fim_suffix|>' '<empty_output>=<|fim_middle|>' \
        '<file_sep>=<|file_sep|>' || exit 1
}

finish() {
    [ "$failures" = 0 ] || { echo "$failures failures"; exit 1; }
    exit 0
}

train_small() {
    mkdir texts
    awk 'BEGIN { for (i = 0; i < 2000; i++) printf "static int f%d(int a, int b) { return a + %d * b; }\n", i % 97, i * i % 101 }' \
        >texts/small.c
    t 0 train --preset tiny-llama --vocab 300 --seq 32 --batch 2 --steps 2 --quiet -o m texts
}

serve() {
    rm -f served
    "$BIN" serve --port 0 "$@" 2>served &
    pid=$!
    for _ in $(seq 400); do
        port=$(sed -n 2>/dev/null 's|^listening on http://.*:\([0-9]*\)/v1$|\1|p' served)
        [ -z "$port" ] || return 0
        sleep 0.05
    done
    last="serve $*"
    complain 'it does not listen'
}
