#!/usr/bin/env bash
# fathom serve: clients that leave while a prompt is computed, an answer said, or kept for its end.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
if [ ! -e "${FATHOM_SMOLLM2:-}" ]; then
    echo 'SmolLM2 is not here (tests/fetch_smollm2.sh)'
    exit 77
fi
[ $quick = 0 ] || exit 78

serve -m "$FATHOM_SMOLLM2" --slots 2
last='serve'
python3 "$root/tests/server/leave.py" "$port" >out 2>err || complain 'who leaves is not noticed'
kill "$pid"
wait "$pid" || complain 'a bad end'
finish
