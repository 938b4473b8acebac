#!/usr/bin/env bash
# Watching a server: metrics, slots, fathom ps, when to come back; tests/server/watch.py asks.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_model

start() { serve -m "$model" "$@"; } # options…

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

printf '%s\n' 'k1 name=alice' 'k2 name=bob' >keys
start --slots 2 --api-key-file keys --price-in 2 --price-hit 0.5 --price-out 8 --ledger ledger
last='what requests cost'
python3 "$root/tests/server/cost.py" "$port" "$BIN" ledger >out 2>err || complain 'the sums are wrong'
stop
start --slots 2 --ledger ledger --request-tokens 20 # another start goes on in it; without prices there is no cost
python3 "$root/tests/server/cost.py" "$port" "$BIN" ledger again >out 2>err || complain 'the sums are wrong'
stop
[ "$(stat -c %a ledger)" = 600 ] || complain 'others may read the ledger'
! grep -q 'best of times' ledger || complain 'texts of requests are in it'
printf '{"time":"2026' >>ledger
t 0 cost ledger
printf '\n' >>ledger
t 3 cost ledger
failed_well
t 3 cost nowhere
failed_well
t 2 cost
failed_well
t 4 serve -m "$model" --port 0 --ledger nowhere/ledger
failed_well
finish
