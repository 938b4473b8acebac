#!/usr/bin/env bash
# What processes have in memory, beside the plan.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[ "$quick" = 0 ] || finish
last=logits
models=("$model:384")
[ -z "${FATHOM_SMOLLM2:-}" ] || models+=("$FATHOM_SMOLLM2:2048")
if ldd "$BIN" | grep -q libasan; then
    echo 'SKIP  the sanitizer has memory of its own'
else
    python3 "$root/tests/cli/memory.py" "$BIN" "$tmp" "$golden" "${models[@]}" >&2 || complain 'not as planned'
fi
finish
