#!/usr/bin/env bash
# fathom perplexity: results, files of log-probabilities, going on after an interruption, failures.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

t 2 perplexity
failed_well
t 2 perplexity "$golden/qwen3"
failed_well
err_has '--text'
t 3 perplexity "$golden/qwen3" --text "$root/LICENSE"
failed_well
err_has 'no tokenizer'
t 3 perplexity nowhere.gguf --text "$root/LICENSE"
failed_well
t 0 perplexity --help
out_has '--kld REFERENCE'

t 2 eval
failed_well
t 0 eval --help
out_has '--shots-from FILE'

need_model
head -c 20000 "$root/docs/ARCHITECTURE.md" >text
number() { grep -oE "\"$1\":[-+0-9.e]+" out | cut -d: -f2; }

t 0 perplexity "$model" --text text --ctx 64 --chunks 12 -q
silent
out_has 'PPL '
out_has 'bits per byte'
cp out first
t 0 perplexity -m "$model" --text text --ctx 64 --chunks 12 --threads 1 -q
cmp -s out first || complain 'one thread gives another result'
t 3 perplexity "$model" --text text --ctx 100000 # and a warning: more than the model was trained with
err_has '--ctx N makes windows shorter'
t 3 perplexity "$model" --text missing
failed_well
t 2 perplexity "$model" --text text --ctx 2
failed_well
t 2 perplexity "$model" --text text --kld-exact
failed_well

# a model beside itself, and a file of it
t 0 perplexity "$model" --text text --ctx 64 --chunks 3 --kld "$model" --json -q
same "$(number kld)" 0
same "$(number same_top)" 1
same "$(number ratio)" 1
ppl=$(number ppl)
t 0 perplexity "$model" --text text --ctx 64 --chunks 3 --save-logits ref --json -q
same "$(number ppl)" "$ppl"
same "$(head -c 8 ref)" _logits_
[ ! -e ref.state ] && [ ! -e ref.partial ] || complain 'something lies beside the finished file'
t 0 perplexity "$model" --kld ref --json -q
same "$(number ppl)" "$ppl"
same "$(number positions)" 93
[ "$(awk -v k="$(number kld)" 'BEGIN { print (k < 1.3e-3 && k > -1.3e-3) }')" = 1 ] || complain 'far from itself'
t 2 perplexity "$model" --text text --ctx 32 --kld ref
failed_well
t 3 perplexity "$model" --text "$root/LICENSE" --kld ref
failed_well
err_has 'another text'
head -c 1000 ref >cut
t 3 perplexity "$model" --kld cut
failed_well
t 4 perplexity "$model" --text text --ctx 64 --save-logits no/such/folder
failed_well
t 2 perplexity "$model" --text text --ctx 64 --save-logits .
failed_well

# sets of questions
cat >set.jsonl <<'END'
{"context":"Once upon a","choices":["time","zzxq kkj"],"answer":0}
{"question":"How many?","choices":["one","two"],"answer":"B"}
{"question":"What is 1+1?","answer":"It is 2.\n#### 2"}
END
t 0 eval "$model" set.jsonl -n 4 --out done.jsonl --json -q
silent
same "$(number items)" 3
same "$(number choice_items)" 2
same "$(wc -l <done.jsonl)" 4
out_has '"chance":0.5'
sed 's/,"seconds".*//' out >first
head -n 2 done.jsonl >part && mv part done.jsonl
t 0 eval -m "$model" set.jsonl -n 4 --out done.jsonl --threads 1 --json -q
same "$(sed 's/,"seconds".*//' out)" "$(cat first)"
t 3 eval -m "$model" set.jsonl -n 5 --out done.jsonl
failed_well
t 0 eval -m "$model" set.jsonl --limit 1 -q
out_has 'acc '
t 2 eval "$model" set.jsonl --match like
failed_well
t 2 eval "$model" set.jsonl --shots 3
failed_well
t 3 eval "$model" missing.jsonl
failed_well
sed -i '2s/answer/anwser/' set.jsonl
t 3 eval "$model" set.jsonl
failed_well
err_has 'set.jsonl:2: no answer'

# interrupted, then taken up again
for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do cat "$root/docs/ARCHITECTURE.md"; done >long
"$BIN" perplexity "$model" --text long --ctx 128 --save-logits whole --json -q >out 2>err
last='interrupted run'
want=$(sed 's/,"tokens".*//' out)
"$BIN" perplexity "$model" --text long --ctx 128 --save-logits parts -q >out 2>err &
job=$!
for _ in $(seq 200); do
    [ ! -e parts.partial ] || [ "$(stat -c %s parts.partial)" -lt 2000000 ] || break
    sleep 0.05
done
kill -TERM $job # a job in the background does not hear Ctrl-C
wait $job
same "$?" 130
[ ! -s out ] || complain 'half a result on standard output'
[ -e parts.state ] && [ ! -e parts ] || complain 'no state'
"$BIN" perplexity "$model" --text long --ctx 64 --save-logits parts -q >out 2>err
same "$?" 3
failed_well
"$BIN" perplexity "$model" --text long --ctx 128 --save-logits parts --json >out 2>err
same "$?" 0
err_has 'going on behind chunk'
same "$(sed 's/,"tokens".*//' out)" "$want"
cmp -s whole parts || complain 'the interruption shows in the file'
finish
