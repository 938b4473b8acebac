#!/usr/bin/env bash
# fathom imatrix: collecting, resuming, merging, looking; what goes wrong.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# without a model: an old .dat of two tensors by hand
dat() { printf '\2\0\0\0\1\0\0\0a\2\0\0\0\2\0\0\0\0\0\0\100\0\0\200\100\1\0\0\0b\1\0\0\0\1\0\0\0\0\0\200\77\2\0\0\0\5\0\0\0t.txt'; }
dat >old.dat
t 0 imatrix --show old.dat
silent
out_has 'text: t.txt'
out_has 'chunks: 2 of 512 tokens'
out_has 'a              1       2                1024        1.5        0.5          1          2 100.00%  0.9183'
t 0 imatrix --show old.dat --json
out '{"texts":["t.txt"],"chunks":2,"chunk_tokens":512,"tensors":[{"name":"a","matrices":1,"seen":1,"columns":2,"rows_min":1024,"rows_max":1024,"mean":1.5,"deviation":0.5,"min":1,"max":2,"active":1,"entropy":0.918295834},{"name":"b","matrices":1,"seen":1,"columns":1,"rows_min":512,"rows_max":512,"mean":1,"deviation":0,"min":1,"max":1,"active":1,"entropy":0}]}\n'
t 0 imatrix --merge old.dat old.dat -o sum.gguf
err 'wrote sum.gguf'
t 0 imatrix --show sum.gguf
out_has 'chunks: 4 of 512 tokens'
out_has '                2048        1.5'
cp sum.gguf before.gguf
dat | head -c 40 >cut.dat
t 3 imatrix --merge old.dat cut.dat -o sum.gguf
failed_well
err_has 'cut.dat, byte'
cmp -s sum.gguf before.gguf || complain 'a failed merge left another file'
t 3 imatrix --show nowhere.gguf
failed_well
t 3 imatrix --show "$golden/qwen3/model.safetensors"
failed_well

t 2 imatrix --show old.dat --merge
failed_well
t 2 imatrix --merge -o x.gguf
failed_well
t 2 imatrix --merge old.dat
failed_well
t 2 imatrix -m "$golden/qwen3" -o x.gguf
failed_well
err_has '--text'
t 2 imatrix -m "$golden/qwen3" --text old.dat
failed_well
err_has '--out'
t 3 imatrix -m "$golden/qwen3" --text old.dat -o x.gguf # no tokenizer
failed_well
[ ! -e x.gguf ] || complain 'a file after a failure'

need_model
for i in $(seq 150); do printf 'The %s of %s was in the %s.\n' "$i" "$((i * i))" "$((i % 7))"; done >text.txt
t 0 imatrix "$model" --text text.txt -o whole.gguf --ctx 64 -q
silent
[ ! -s out ] || complain 'something on standard output'
t 0 imatrix -m "$model" --text text.txt -o part.gguf --ctx 64 --chunks 3
err_has 'wrote part.gguf: 3 of 3 chunks'
t 0 imatrix -m "$model" --text text.txt -o part.gguf --ctx 64 --resume --threads 1
cmp -s whole.gguf part.gguf || complain 'a resumed run, with another number of threads, has other bits'
t 0 imatrix --show whole.gguf
out_has 'text: text.txt'
out_has 'blk.1.ffn_down_exps.weight'
t 3 imatrix -m "$model" --text text.txt -o part.gguf --ctx 65 --resume
failed_well
err_has 'other options'
t 3 imatrix -m "$model" --text old.dat -o x.gguf --ctx 256
failed_well
err_has 'chunks of 256'

# a signal keeps what there is, and the run goes on from there
for i in $(seq 200); do cat text.txt; done >long.txt
"$BIN" imatrix "$model" --text long.txt -o stopped.gguf --ctx 128 --save-every 1 2>stopped.err &
pid=$!
for _ in $(seq 300); do [ ! -e stopped.gguf ] || break; sleep 0.1; done
kill -TERM "$pid"
wait "$pid"
same $? 130
grep -q 'wrote stopped.gguf: [0-9]* of' stopped.err || complain 'an stopped run does not say what it kept'
t 0 imatrix --show stopped.gguf
done=$(sed -n 's/^chunks: \([0-9]*\) .*/\1/p' out)
t 0 imatrix "$model" --text long.txt -o stopped.gguf --ctx 128 --chunks $((done + 2)) --resume
err_has "wrote stopped.gguf: $((done + 2)) of $((done + 2)) chunks"
finish
