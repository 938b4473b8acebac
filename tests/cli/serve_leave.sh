#!/usr/bin/env bash
# fathom serve: clients that leave while a prompt is computed, an answer said, or kept for its end, a call withheld.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
smollm2_with_tools

serve -m model.gguf --slots 2
last='serve'
python3 "$root/tests/server/leave.py" "$port" >out 2>err || complain 'who leaves is not noticed'
kill "$pid"
wait "$pid" || complain 'a bad end'
finish
