#!/usr/bin/env bash
# fathom serve: tool calls in every dialect, with a real model in a chat format that has words for them.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
smollm2_with_tools

serve -m model.gguf
last='serve'
python3 "$root/tests/server/tools.py" "$port" >out 2>err || complain 'a dialect has its tools wrong'
python3 "$root/tests/server/embeddings.py" "$port" >out 2>err || complain 'embeddings, models or holes are not right'
kill "$pid"
wait "$pid" || complain 'a bad end'
finish
