#!/usr/bin/env bash
# Each family's small model, as a folder and as a GGUF made from it: show, plan, logits, run, perplexity, quantize; and both
# containers give the same answers.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# A tokenizer for vocabularies of at least 80 entries: single letters, blank and newline among them.
letters() {
    local i c
    printf '{"version":"1.0","added_tokens":[],"normalizer":null,"pre_tokenizer":{"type":"Sequence","pretokenizers":['
    printf '{"type":"Split","pattern":{"Regex":"\\\\p{N}"},"behavior":"Isolated","invert":false},'
    printf '{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}]},'
    printf '"post_processor":null,"decoder":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{"\\u0120":0,"\\u010a":1'
    for ((i = 2; i < 80; i++)); do
        printf -v c "\\\\x$(printf %x $((i + 45)))"
        c=$(printf '%b' "$c")
        case $c in '"' | '\') c=\\$c ;; esac
        printf ',"%s":%d' "$c" "$i"
    done
    printf '},"merges":[]}}\n'
}
letters >tokenizer.json
for i in 1 2 3 4 5 6; do
    printf 'THE KEEPER COUNTED ELEVEN SHIPS BEFORE THE FOG ROLLED IN\nTHE SHIPS COUNTED THE KEEPER\n'
done >text.txt

numbers() { od -An -v -tf4 -w4 "$1"; }

# close A B LIMIT: largest |a − b| over the largest |b|
close() {
    paste <(numbers "$1") <(numbers "$2") |
        awk -v limit="$3" '{ d = $1 - $2; if (d < 0) d = -d; if (d > worst) worst = d; m = $2 < 0 ? -$2 : $2; if (m > big) big = m }
            END { exit !(NR > 0 && big > 0 && worst <= limit * big) }' || complain "$1 and $2 are further apart than $3"
}

# What must work on any model; $1 the model, $2 its family.
use() {
    t 0 show "$1"
    out_has "family                $2"
    t 0 plan "$1" --ctx 64
    t 0 logits -m "$1" --tokens 1,2,3,5,7 --all --exact --format f32
    cp out "$(basename "$1").f32"
    t 0 run -m "$1" --raw -n 4 --temp 0 --exact --ctx 64 'THE SHIPS'
    cp out "$(basename "$1").txt"
    t 0 perplexity -m "$1" -f text.txt --ctx 64 --kv-type f32 --json
    cp out "$(basename "$1").json"
}

# field of a JSON result
field() { sed -n "s/.*\"$1\":\([-0-9.e+]*\).*/\1/p" "$2" | head -n 1; }

family() { # folder
    local name want
    name=$(basename "$1")
    want=$(sed -n 's/.*"model_type": *"\([^"]*\)".*/\1/p' "$1/config.json" | head -n 1)
    mkdir "$name"
    cp "$1"/config.json "$1"/model* tokenizer.json "$name"/
    chmod -R u+w "$name"
    use "$name" "$want"
    t 0 quantize "$name" "$name-f32.gguf" --type f32 --quiet
    use "$name-f32.gguf" "$want"
    close "$name-f32.gguf.f32" "$name.f32" 1e-5
    cmp -s "$name-f32.gguf.txt" "$name.txt" || complain 'the GGUF goes on with another text'
    # BF16 folder and back: what the weights were, rounded
    t 0 quantize "$name-f32.gguf" "$name-back" --type bf16 --quiet
    use "$name-back" "$want"
    close "$name-back.f32" "$name.f32" 0.1
    awk -v a="$(field ppl "$name-f32.gguf.json")" -v b="$(field ppl "$name.json")" \
        'BEGIN { exit !(a > 1 && b > 1 && a / b < 1.0001 && b / a < 1.0001) }' || complain 'another perplexity in GGUF'
    if [ "$quick" = 0 ] && grep -q '"hidden_size": *\(64\|192\)' "$1/config.json"; then
        t 0 quantize "$name" "$name-q8_0.gguf" --type q8_0 --quiet
        use "$name-q8_0.gguf" "$want"
        close "$name-q8_0.gguf.f32" "$name.f32" 0.3 # a choice of experts may fall the other way
    fi
    rm -rf "$name"*
}

n=0
for folder in "$golden"/*/ "${FATHOM_SHARED:-$root/../shared}"/golden/*/; do
    [ -f "$folder/config.json" ] || continue
    [ "$quick" = 0 ] || [ $((n % 4)) = 0 ] || { n=$((n + 1)); continue; }
    last="family $folder"
    family "${folder%/}"
    n=$((n + 1))
done
[ "$n" -ge 8 ] || complain "only $n models"

# a template of no known format: said, with what to do
cp -r "$golden/qwen3" unknown
chmod -R u+w unknown
cp tokenizer.json unknown
printf '{{ messages }} in a way of its own' >unknown/chat_template.jinja
t 0 run -m unknown -n 2 --temp 0 --ctx 64 'SHIP'
err_has 'unknown: its chat template is of no format that is known here: the text is continued as it stands.'
err_has 'choose a format with --chat-format NAME; --chat-format help lists them'
t 0 run -m unknown -n 2 --temp 0 --ctx 64 --raw 'SHIP'
silent
t 0 run -m unknown -n 2 --temp 0 --ctx 64 --chat-format plain 'SHIP'
silent
t 2 run -m unknown -n 2 --temp 0 --chat-format nonsense 'SHIP'
err_has 'choose a chat format: nonsense: not known'
input='SHIP\n'
t 0 chat unknown --ctx 64 -n 2
err_has 'choose a format with --chat-format NAME'
finish
