#!/usr/bin/env bash
# fathom serve: tool calls in every dialect, with a real model in a chat format that has words for them.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
if [ ! -e "${FATHOM_SMOLLM2:-}" ]; then
    echo 'SmolLM2 is not here (tests/fetch_smollm2.sh)'
    exit 77
fi
[ $quick = 0 ] || exit 78

# its own chat format knows no tools: the file says that it is Qwen 2.5's, whose marks it has
python3 "$root/tests/server/retemplate.py" "$FATHOM_SMOLLM2" model.gguf \
    '<|im_start|> You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' \
    '<jupyter_code>=<|fim_prefix|>' '<jupyter_text>=<|fim_suffix|>' '<empty_output>=<|fim_middle|>' || exit 1
serve -m model.gguf
last='serve'
python3 "$root/tests/server/tools.py" "$port" >out 2>err || complain 'a dialect has its tools wrong'
python3 "$root/tests/server/embeddings.py" "$port" >out 2>err || complain 'embeddings, models or holes are not right'
kill "$pid"
wait "$pid" || complain 'a bad end'
finish
