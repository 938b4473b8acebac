#!/usr/bin/env bash
# Wrong usage: exit code 2, one line that names the option and what is accepted, nothing on standard output.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

t 0 help
out_has 'usage: fathom'
silent
for command in chat run show plan doctor tensor tokenize tokenizer logits imatrix train plot quantize export version; do
    t 0 "$command" --help
    out_has "usage: fathom $command"
    silent
    t 0 help "$command"
    out_has "usage: fathom $command"
    t 2 "$command" --no-such-option
    failed_well
    err_has '--no-such-option'
done

t 2 nonsense
failed_well
t 2 shwo
err 'fathom: read arguments: shwo: no such command
hint: did you mean fathom show?'
t 2 help nonsense
failed_well

t 2 run --temp
err 'fathom: read options: --temp: its value T is missing'
t 2 run --temp 101 x
err "fathom: read options: --temp: '101' is not a number from 0 to 100"
t 2 run --temp nan x
failed_well
t 2 run --temp 0x1p3 x
failed_well
t 2 run --temp= x
failed_well
t 2 logits --tokens 1 --kv-type q4_0
err "fathom: open model: KV type 'q4_0': none of f32, bf16, q8_0"
t 2 logits --tokens 1 --kv-type q8_0 --exact
err 'fathom: open model: KV type q8_0: exact arithmetic keeps f32'
t 2 run --top-k=1.5 x
err "fathom: read options: --top-k: '1.5' is not a whole number of at least 0"
t 2 run -n 99999999999999999999 x
failed_well
t 2 run --seed -1 x
failed_well
t 2 run --exact=yes x
err 'fathom: read options: --exact=yes: --exact takes no value'
t 2 run --tmep 1 x
err 'fathom: read options: --tmep: no such option of fathom run
hint: did you mean --temp?'
t 2 run -Z x
failed_well
t 2 run --log-level loud x
failed_well
t 2 run -m '' x
failed_well
t 2 logits --threads 0 --tokens 1
failed_well

t 2 logits
err 'fathom: read options: --tokens: it is missing'
t 2 logits --tokens 1 --format xml
err "fathom: read options: --format: 'xml' is neither json nor f32"
t 2 logits --tokens 1 extra
failed_well
t 2 show a b
failed_well
t 2 tensor --format f32
failed_well
t 2 tensor --format f64 name
failed_well
t 2 tokenize --decode --bos
failed_well
t 2 tokenize text
failed_well
t 2 tokenizer
failed_well
t 2 tokenizer learn x
failed_well
t 2 tokenizer train x
failed_well
t 2 tokenizer train x --vocab 10 -o y
failed_well
t 2 train
failed_well
t 2 train --steps 1 --minutes 1 x
failed_well
t 2 train --schedule linear x
failed_well
t 2 plot
failed_well
t 2 plot x --term pdf
failed_well
t 2 export only-one
failed_well

t 0 version
[ "$(sed -n 1p out | grep -cE '^fathom [0-9]+\.[0-9]+\.[0-9]+$')" = 1 ] || complain 'no name and version'
[ "$(grep -cE '^(commit|cpu|threads) .+' out)" = 3 ] || complain 'no commit, cpu, threads'
t 0 --version
out_has 'fathom '
finish
