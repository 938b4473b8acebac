#!/usr/bin/env bash
# fathom serve in long use, shortened: requests, idle connections and cut ones leave nothing behind (tests/server/soak.py; in full:
# python3 tests/server/soak.py build/fathom models/default.gguf FOLDER).
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_model
[ $quick = 0 ] || { echo 'SKIP  long use of the server: only in a full check'; finish; }

last='serve, in long use'
python3 "$root/tests/server/soak.py" "$BIN" "$model" "$tmp" 600 300 5 >out 2>err || complain 'something is left behind'
finish
