#!/usr/bin/env bash
# Drafts change no answer, greedy or sampled; what cannot be drafted with is refused.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_model

for how in '--temp 0' '--seed 5' '--seed 6 --repeat 1.2 --min-p 0.05' '--seed 7 --deterministic --threads 1'; do
    # shellcheck disable=SC2086 # options
    t 0 run -m "$model" --raw -n 120 $how 'The old man said that the old man'
    cp out plain
    for draft in off lookup mtp auto; do
        for max in 1 4; do
            # shellcheck disable=SC2086
            t 0 run -m "$model" --raw -n 120 $how --draft "$draft" --draft-max "$max" 'The old man said that the old man'
            cmp -s plain out || complain "drafts by $draft change the answer"
            silent
        done
    done
done

t 0 run -m "$model" --json -n 40 --draft mtp Hello
out_has '"drafted":'
out_has '"accepted":'
t 0 run -m "$model" --stats -n 40 --draft mtp Hello
err_has 'tokens/step'
t 0 run -m "$model" --stats -n 40 Hello
! grep -q 'drafted' err || complain 'drafts without --draft'
input='Once upon\n/stats\n a time\n/exit\n'
t 0 chat -m "$model" -n 30 --seed 2
cp out plain
t 0 chat -m "$model" -n 30 --seed 2 --draft mtp
cmp -s plain out || complain 'drafts change a conversation'
err_has 'tokens/step'
input=

# memory for drafts is in the plan: one layer more in the cache, and more logits
t 0 plan "$model"
kv=$(grep '^KV cache  ' out | tr -s ' ' | cut -d ' ' -f 3)
t 0 plan "$model" --draft mtp
same "$(grep '^KV cache  ' out | tr -s ' ' | cut -d ' ' -f 3)" $((kv / 6 * 7))
t 0 plan "$model" --draft lookup
same "$(grep '^KV cache  ' out | tr -s ' ' | cut -d ' ' -f 3)" "$kv"

t 2 run -m "$model" --draft guess Hello
failed_well
err_has 'off, auto, lookup, mtp'
t 2 run -m "$model" --draft lookup --draft-max 17 Hello
failed_well
t 2 run -m "$golden/llama-tied-scaled" --draft mtp Hello
failed_well
err_has 'no multi-token-prediction block'
t 2 plan "$golden/qwen3" --draft mtp
failed_well

# an interrupt within drafts keeps what came so far
timeout --preserve-status -s INT 1 "$BIN" run -m "$model" --raw -n 100000 --ctx 100000 --draft auto 'The ' </dev/null >out 2>err
code=$?
[ "$code" = 130 ] || [ "$code" = 0 ] || complain "exit code $code after an interrupt"
finish
