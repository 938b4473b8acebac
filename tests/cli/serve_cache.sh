#!/usr/bin/env bash
# fathom serve --cache-dir: tests/server/cache.py starts, stops and kills servers; what is refused.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_model

last='serve --cache-dir'
python3 "$root/tests/server/cache.py" "$BIN" "$model" "$tmp" >out 2>err || complain 'the cache is not as it should be'

t 2 serve -m "$model" --port 0 --cache-bytes 1000000
failed_well
t 2 serve -m "$model" --port 0 --cache-dir kv --cache-bytes 0
failed_well
t 2 serve -m "$model" --port 0 --cache-dir kv --cache-bytes 100
failed_well
t 2 serve -m "$model" --port 0 --cache-dir nowhere/at/all
failed_well
: >file
t 2 serve -m "$model" --port 0 --cache-dir file
failed_well
finish
