#!/usr/bin/env bash
# Load on fathom serve, and on llama-server in the same run where $LLAMA_SERVER names one: 1, 2, 4, 8, 16 streams of 128 tokens in
# and 128 out, the two servers in turn.  usage: bench/serve.sh [MODEL.gguf [STREAMS]]   BIN: the program; THREADS (2).
# CSV on standard output; the columns are bench/load.py's.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
model=${1:-models/default.gguf} streams=${2:-1,2,4,8,16}
BIN=${BIN:-build/fathom} threads=${THREADS:-2}
log=$(mktemp)
trap 'rm -f "$log"; [ -z "${pid:-}" ] || kill "$pid" 2>/dev/null || true' EXIT

load() { # label, port, streams; a first request that does not count touches the weights
    python3 bench/load.py "$2" --streams 1 --requests 1 --tokens-out 16 >/dev/null
    python3 bench/load.py "$2" --label "$1" --streams "$3" --requests "${REQUESTS:-2}"
}

ours() {
    "$BIN" serve -m "$model" --port 0 --slots 16 --threads "$threads" 2>"$log" &
    pid=$!
    for _ in $(seq 600); do
        port=$(sed -n 's|^listening on http://.*:\([0-9]*\)/v1$|\1|p' "$log")
        [ -z "$port" ] || break
        sleep 0.1
    done
    load fathom "$port" "$1"
    kill "$pid" && wait "$pid"
}

theirs() {
    local port=18099
    "$LLAMA_SERVER" -m "$model" --port $port -t "$threads" -tb "$threads" -np 16 -c 8192 --no-webui >"$log" 2>&1 &
    pid=$!
    for _ in $(seq 600); do
        ! curl -sf "http://127.0.0.1:$port/health" >/dev/null || break
        sleep 0.1
    done
    load llama-server "$port" "$1"
    kill "$pid" && wait "$pid" || true
}

python3 -c 'import sys; sys.path.insert(0, "bench"); import load; print(load.HEADER)'
for n in ${streams//,/ }; do
    ours "$n"
    [ -z "${LLAMA_SERVER:-}" ] || theirs "$n"
done
pid=
