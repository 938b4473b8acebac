#!/usr/bin/env bash
# fathom serve: a real process, spoken to by tests/server/talk.py; keys, addresses, the way down.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_model

start() { # options…: the server's process in $pid, its port in $port
    rm -f served
    "$BIN" serve -m "$model" --port 0 --slots 4 "$@" 2>served &
    pid=$!
    for _ in $(seq 200); do
        port=$(sed -n 2>/dev/null 's|^listening on http://.*:\([0-9]*\)/v1$|\1|p' served)
        [ -z "$port" ] || return 0
        sleep 0.05
    done
    last="serve $*"
    complain 'it does not listen'
}

stop() { # signal, exit code wanted
    local rc=0
    kill "-$1" "$pid"
    wait "$pid" || rc=$?
    last="serve, $1"
    [ "$rc" = "$2" ] || complain "exit code $rc, not $2"
}

start
last='serve'
python3 "$root/tests/server/talk.py" "$port" >out 2>err || complain 'clients are not content'
stop TERM 0

start --api-key secret --strict-model
last='serve --api-key'
python3 "$root/tests/server/talk.py" "$port" secret >out 2>err || complain 'keys do not keep'
stop TERM 0

t 2 serve --host 0.0.0.0 --port 0 -m "$model"
failed_well
t 3 serve -m nowhere.gguf
failed_well
: >keys
t 3 serve --api-key-file keys -m "$model"
failed_well
finish
