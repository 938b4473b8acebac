#!/usr/bin/env bash
# fathom logits, tensor and show on a small model in the tree: formats and agreement between them.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
m=$golden/qwen3

t 0 logits -m "$m" --tokens 1,2,3 --format f32
[ "$(stat -c %s out)" = 320 ] || complain 'not 80 floats'
cp out last.f32
t 0 logits -m "$m" --tokens 1,2,3 --format f32 --all
[ "$(stat -c %s out)" = 960 ] || complain 'not 3·80 floats'
tail -c 320 out | cmp -s - last.f32 || complain 'the last of all positions is another than the last'
input='1 2\n3\n'
t 0 logits -m "$m" --tokens - --format f32
cmp -s out last.f32 || complain 'ids on standard input give other logits'
input=
t 0 logits -m "$m" --tokens 1,2,3 --threads 1 --format f32
cmp -s out last.f32 || complain 'one thread gives other bits'

t 0 logits -m "$m" --tokens 1,2,3
silent
same "$(head -c 39 out)" '{"vocab":80,"positions":[2],"logits":[['
same "$(tr -cd , <out | wc -c)" 81
t 0 logits -m "$m" --tokens 1,2,3 --all
out_has '"positions":[0,1,2]'
# what %.9g prints is the float itself
od -An -v -tf4 -w4 last.f32 | head -n 1 >first.txt
t 0 logits -m "$m" --tokens 1,2,3
sed 's/.*\[\[\([^,]*\),.*/\1/' out >json.txt
[ "$(awk 'NR==FNR{a=$1;next}{d=a-$1; print (d<0?-d:d) < 1e-6}' first.txt json.txt)" = 1 ] || complain 'JSON and f32 differ'

t 2 logits -m "$m" --tokens 1,80
failed_well
t 2 logits -m "$m" --tokens ,
failed_well
t 2 logits -m "$m" --tokens 1,-2
failed_well
t 2 logits -m "$m" --tokens 1,2,3 --ctx 2
failed_well

t 0 tensor -m "$m"
out_has 'model.norm.weight'
silent
t 0 tensor -m "$m" model.norm.weight --format f32
[ "$(stat -c %s out)" = 128 ] || complain 'not 32 floats'
t 0 tensor -m "$m" model.norm.weight
out_has 'shape   [32]'
t 0 tensor -m "$m/vectors.safetensors"
out_has 'hidden.0'

t 0 show "$m"
out_has 'qwen3'
t 0 show "$m" --json
out_has '"family":"qwen3"'
out_has '"vocab":80'
t 0 plan "$m" --ctx 64
out_has 'KV cache'
t 0 logits -m "$m" --tokens 1 --mem
err_has 'KV cache'
out_has '{"vocab":80'

# streams that do not take what we write
[ ! -e /dev/full ] || { "$BIN" tensor -m "$m" >/dev/full 2>err; same "$?" 4; : >out; failed_well; }
"$BIN" logits -m "$m" --tokens 1,2,3 --all 2>err | head -c 1 >/dev/null
same "${PIPESTATUS[0]}" 0
[ ! -s err ] || complain 'a closed pipe is no failure'

# a template of a format that is not known: said by show
cp -r "$golden/qwen3" unknown
printf '{{ messages }} in a way of its own' >unknown/chat_template.jinja
t 0 show unknown
out_has 'its template is none that is known: --chat-format NAME'
finish
