#!/usr/bin/env bash
# fathom run and chat with the shipped model: what is on which stream.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_model

t 0 run -m "$model" --temp 0 -n 8 Hello
cp out answer
[ "$(tail -c 1 out | od -An -tu1 | tr -d ' ')" = 10 ] || complain 'no answer with a newline'
silent
t 0 run "$model" Hello -n 8 --temp 0
cmp -s answer out || complain 'MODEL as first word gives another answer'
t 0 run --temp 0 -n 8 Hello
cmp -s answer out || complain 'the model found by itself gives another answer'
input='Hello\n'
t 0 run -m "$model" --temp 0 -n 8
cmp -s answer out || complain 'standard input gives another answer than the argument'
input=
t 0 run -m "$model" --temp 0 -n 8 --threads 1 Hello
cmp -s answer out || complain 'one thread gives another answer'

# --raw: only the continuation, no newline added; the same as feeding the ids
t 0 run -m "$model" --raw --temp 0 -n 1 'The '
cp out raw
[ -s raw ] || complain 'no continuation'
t 0 run -m "$model" --raw --temp 0 -n 0 'The '
out ''
input='first\n'
t 0 run -m "$model" --raw --temp 0 -n 4 second
cp out joined
input=
t 0 run -m "$model" --raw --temp 0 -n 4 'first
second'
cmp -s joined out || complain 'standard input and argument are not joined by one newline'

# the same seed draws the same, and stop texts are no part of the answer
t 0 run -m "$model" --raw --seed 7 -n 16 'The '
cp out seeded
t 0 run -m "$model" --raw --seed 7 -n 16 'The '
cmp -s seeded out || complain 'the same seed draws another text'
stop=$(head -c 3 seeded | tail -c 1)
t 0 run -m "$model" --raw --seed 7 -n 16 --stop "$stop" 'The '
! grep -qF -- "$stop" out || complain 'the stop text is in the answer'

t 0 run -m "$model" --json --temp 0 -n 4 Hello
[ "$(wc -l <out)" = 1 ] || complain 'not one line of JSON'
out_has '"answer_tokens":'
out_has '"finish":"'
t 0 run -m "$model" --stats --mem --temp 0 -n 8 Hello
cmp -s answer out || complain '--stats and --mem change standard output'
err_has 'tokens/s'
t 2 run -m "$model"
failed_well
t 2 run -m "$model" --ctx 2 'This is a text of more tokens than two of them, certainly.'
failed_well

# a reader that leaves
"$BIN" run -m "$model" --raw -n 200 'The ' 2>err | head -c 1 >/dev/null
same "${PIPESTATUS[0]}" 0
[ ! -s err ] || complain 'a closed pipe is no failure'

# an interrupt keeps what came so far
timeout --preserve-status -s INT 2 "$BIN" run -m "$model" --raw -n 100000 --ctx 100000 'The ' </dev/null >out 2>err
code=$?
[ "$code" = 130 ] || [ "$code" = 0 ] || complain "exit code $code after an interrupt"

# chat without a terminal: the answers, and nothing else, on standard output
input='Hello\n/stats\n/clear\n"""several\nlines"""\n/bye\nnot read\n'
t 0 chat -m "$model" --temp 0 -n 4
[ "$(wc -l <out)" -ge 2 ] || complain 'fewer than two answers'
err_has 'context: '
input='Hello\n'
t 0 chat "$model" --temp 0 -n 4
[ ! -e state ] || complain 'a chat without a terminal writes a history'
input='/nonsense\n'
t 2 chat -q -m "$model"
failed_well
finish
