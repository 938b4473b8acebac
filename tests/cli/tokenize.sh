#!/usr/bin/env bash
# fathom tokenizer train, tokenize and --decode: bytes come back as they went in.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

t 0 tokenizer train "$root/README.md" "$root/docs" "$root/src/base" --vocab 600 -o t.json --quiet
out ''
silent
[ -s t.json ] || complain 'no tokenizer.json'

round_trip() { # file
    "$BIN" tokenize -m "$2" <"$1" >ids 2>err || complain "tokenize $1"
    [ "$(wc -l <ids)" = 1 ] || complain 'not one line'
    "$BIN" tokenize --decode -m "$2" <ids >back 2>err || complain "decode $1"
    cmp -s "$1" back || complain "$1 does not come back"
}

printf 'The quick brown fox\n\n\tjumps  over 12345 dogs. ' >plain.txt
printf 'Grüße, 世界! \U1F44D e\u0301 \u00bd\r\n' >unicode.txt
printf 'a\0b\377\300\200\355\240\200 <|endoftext|>' >bytes.txt
: >empty.txt
models=(t.json)
if [ "$quick" = 0 ]; then
    if [ -f "$model" ]; then models+=("$model"); else echo 'SKIP the shipped model is not there'; fi
fi
for m in "${models[@]}"; do
    for f in plain.txt unicode.txt bytes.txt empty.txt; do round_trip "$f" "$m"; done
done

t 0 tokenize -m t.json
out '\n'
t 0 tokenize --decode -m t.json
out ''
input='the'
t 0 tokenize -m t.json
[ "$(grep -cE '^[0-9]+( [0-9]+)*$' out)" = 1 ] || complain 'not ids with single blanks'
plain=$(cat out)
t 0 tokenize -m t.json --no-special
same "$(cat out)" "$plain"
input='1 2 three'
t 3 tokenize --decode -m t.json
err "fathom: read token ids: standard input, entry 3: 'three' is not a number from 0 to 2147483647"
input='1 99999999'
t 3 tokenize --decode -m t.json
failed_well
finish
