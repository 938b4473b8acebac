#!/usr/bin/env bash
# The shipped model from a folder or archive of plain texts: tokenizer, training, export, curves.  About 35 minutes on two quiet
# cores.  models/README.md says what it was trained on and with which commands exactly.
# usage: recipes/default.sh CORPUS [OUT]
set -euo pipefail
corpus=${1:?usage: recipes/default.sh CORPUS [OUT]}
out=${2:-fathom-default}
run=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../run

"$run" train --preset default --tokens 13500000 --micro 8 --type Q8_0 --out "$out" "$corpus"
"$run" show "$out/model.gguf"
echo 'Once upon a time' | "$run" run -m "$out/model.gguf" -n 100 --seed 1
