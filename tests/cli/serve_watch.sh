#!/usr/bin/env bash
# Watching a server: metrics, slots, fathom ps, when to come back; tests/server/watch.py asks.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_model

start() { # options…: the server's process in $pid, its port in $port
    rm -f served
    "$BIN" serve -m "$model" --port 0 "$@" 2>served &
    pid=$!
    for _ in $(seq 400); do
        port=$(sed -n 2>/dev/null 's|^listening on http://.*:\([0-9]*\)/v1$|\1|p' served)
        [ -z "$port" ] || return 0
        sleep 0.05
    done
    last="serve $*"
    complain 'it does not listen'
}

stop() {
    kill "$pid"
    wait "$pid" || true
}

start --slots 2 --queue 1 --api-key secret
last='watching a server'
python3 "$root/tests/server/watch.py" "$port" "$BIN" >out 2>err || complain 'what it tells is wrong'
stop
t 1 ps --url "127.0.0.1:$port"
failed_well
t 2 ps --url https://example.org
failed_well
t 2 ps --url 127.0.0.1:
failed_well
t 2 ps something
failed_well
finish
