#!/usr/bin/env bash
# Input files that are missing, folders, empty or nonsense: exit code 3, one line, nothing on standard output.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

mkdir folder
: >empty.gguf
head -c 100 /dev/zero >zeros.gguf
printf 'GGUF\003\0\0\0\377\377\377\377\377\377\377\377' >huge.gguf
printf 'GGUF' >short.gguf
printf '\377\377\377\377\377\377\377\177{}' >huge.safetensors
printf '{"a":' >broken.json

input='1 2'
for file in missing.gguf folder empty.gguf zeros.gguf huge.gguf short.gguf huge.safetensors broken.json; do
    for command in "show $file" "plan $file" "run -m $file x" "chat $file" "tensor -m $file" \
        "tokenize -m $file" "tokenize --decode -m $file" "logits -m $file --tokens 1"; do
        # shellcheck disable=SC2086
        t 3 $command
        failed_well
        err_has "$file"
    done
done

# cut a good file anywhere: never a crash
cp "$golden/qwen3/config.json" folder/
size=$(stat -c %s "$golden/qwen3/model.safetensors")
for n in 0 1 7 8 9 100 1000 2000 $((size / 2)) $((size - 1)); do
    head -c "$n" "$golden/qwen3/model.safetensors" >folder/model.safetensors
    t 3 logits -m folder --tokens 1
    failed_well
done

input=
t 3 tensor -m "$golden/qwen3" no.such.tensor
failed_well
input='1 2 x3 4'
t 3 logits -m "$golden/qwen3" --tokens -
err "fathom: read token ids: standard input, entry 3: 'x3' is not a number from 0 to 2147483647"
input=' \n'
t 3 logits -m "$golden/qwen3" --tokens -
failed_well

t 3 plot missing.jsonl
failed_well
printf '{"step":1,"loss":2}\n{"step":2,\n' >bad.jsonl
t 3 plot bad.jsonl
failed_well
err_has 'bad.jsonl, line 2'
printf '{"loss":2}\n' >nostep.jsonl
t 3 plot nostep.jsonl
failed_well
: >nothing.jsonl
t 3 plot nothing.jsonl
failed_well
t 3 train --steps 1 missing-folder
failed_well
t 3 export missing-folder x.gguf
failed_well
t 3 tokenizer train missing-folder --vocab 300 -o t.json
failed_well
[ ! -e t.json ] || complain 'a failed training left its output'

# a wrong path leaves no folder behind
t 3 train --steps 1 -o left-over missing-folder
[ ! -e left-over ] || complain 'a failed training left an empty folder'

# a tokenizer that is not the model's, and one that cannot be read: the model computes, but cannot talk
input=
cp "$golden/qwen3/model.safetensors" folder/
t 0 tokenizer train -q "$root/src/base" --vocab 1000 -o folder/tokenizer.json
t 3 run -m folder --raw 'static enum fm_status'
failed_well
err_has 'folder: its tokenizer of 1000 entries'
t 0 logits -m folder --tokens 1
silent
printf '{"a":' >folder/tokenizer.json
t 3 run -m folder --raw 'static enum fm_status'
failed_well
t 0 logits -m folder --tokens 1
silent

# text that a message cannot hold
t 0 tokenizer train -q "$root/src/base" --vocab 257 -o folder/tokenizer.json
input='a\0b'
t 3 run -m folder -n 1
failed_well
t 3 chat -q -m folder -n 1
failed_well

# closed streams: their numbers are not taken by files
"$BIN" run -m folder --raw -n 1 a <&- >out 2>err || complain "no standard input: exit code $?"
"$BIN" version >&- 2>err
same "$?" 4
"$BIN" run -m missing-folder a 2>&- </dev/null >out
same "$?" 3
finish
