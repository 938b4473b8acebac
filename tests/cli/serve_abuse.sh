#!/usr/bin/env bash
# fathom serve: hostile clients (tests/server/abuse.py), while another one is served.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_model

cases=${FATHOM_SHARED:-$root/../shared}/data/5-conformance/llhttp/request
if [ ! -d "$cases" ]; then
    echo "SKIP  the cases of llhttp are not here ($cases)"
    cases=
fi
serve -m "$model" --slots 4 --idle-seconds 2 --body-seconds 2 --connections-per-address 60 --quiet
last='serve, abused'
# shellcheck disable=SC2086 # nothing when there are no cases
python3 "$root/tests/server/abuse.py" "$port" $cases >out 2>err || complain 'it does not bear it'
kill -TERM "$pid"
rc=0
wait "$pid" || rc=$?
[ "$rc" = 0 ] || complain "exit code $rc, not 0"
[ "$(wc -l <served)" = 1 ] || complain "it says $(tail -n 5 served)"
finish
