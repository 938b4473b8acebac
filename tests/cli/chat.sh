#!/usr/bin/env bash
# Messages to prompts and answers to messages, exact bytes and failures; the settings and commands of a chat.
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "$0")/common.sh"

hi='{"messages":[{"role":"user","content":"Hi"}]}'

t 0 chat-encode --format help
out_has deepseek-v4-0731
silent
t 0 chat-decode --format help
out_has qwen3
t 0 chat --chat-format help
out_has llama2
t 0 run --chat-format help
out_has chatml

input=$hi
t 0 chat-encode --format deepseek-v4
out '<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜></think>'
silent
t 0 chat-encode --format deepseek-v4 --thinking
out '<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜><think>'
t 0 chat-encode --format deepseek-r1
out '<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜><think>\n'
t 0 chat-encode --format chatml
out '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n'
t 0 chat-encode --format qwen3
out '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n'
t 0 chat-encode --format llama2
out '<s>[INST] Hi [/INST]'
t 0 chat-encode --format deepseek-v2
out '<｜begin▁of▁sentence｜>User: Hi\n\nAssistant:'
input='[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]'
t 0 chat-encode --format deepseek-v3
out '<｜begin▁of▁sentence｜><｜User｜>a<｜Assistant｜>b<｜end▁of▁sentence｜>'

input='{"tools":[{"type":"function","function":{"name":"f"}}],"messages":[{"role":"user","content":"Hi"}]}'
t 3 chat-encode --format llama2
failed_well
t 0 chat-encode --format deepseek-r1
err_has 'no list of tools'
input='{"messages":[{"role":"user","content":"Hi"},]}'
t 3 chat-encode --format deepseek-v4
failed_well
err_has 'byte 44'
input=
t 3 chat-encode --format deepseek-v4
failed_well
input='{"messages":[{"content":"Hi"}]}'
t 3 chat-encode --format deepseek-v4
failed_well
err_has 'message 1, role: it is missing'
input=$hi
t 2 chat-encode
failed_well
t 2 chat-encode --format deepseek-v9
failed_well
err_has 'did you mean'
t 2 chat-encode --format chatml -m x.gguf
failed_well
t 3 chat-encode --format chatml --ids -m missing.gguf
failed_well

input='why</think>yes<｜end▁of▁sentence｜>'
t 0 chat-decode --format deepseek-v4 --thinking
out '{"role": "assistant", "content": "yes", "reasoning_content": "why", "tool_calls": []}\n'
silent
input='Sure.\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name="f">\n<｜DSML｜parameter name="a" string="false">0.10</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>'
t 0 chat-decode --format deepseek-v4
out '{"role": "assistant", "content": "Sure.", "reasoning_content": "", "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": "{\\"a\\": 0.10}"}}]}\n'
silent
input='a<tool_call>'
t 0 chat-decode --format qwen2.5
out '{"role": "assistant", "content": "a<tool_call>", "reasoning_content": "", "tool_calls": []}\n'
err_has 'malformed tool block'
input='\xff'
t 0 chat-decode --format chatml
out_has '"content": "�"'
input=
t 0 chat-decode --format plain
out '{"role": "assistant", "content": "", "reasoning_content": "", "tool_calls": []}\n'


# ---- fathom chat and run: settings and commands, with a small model

input=
train_small
m=m/model.gguf

t 2 chat -m $m --think --no-think
failed_well
t 2 chat -m $m --no-think --effort max
failed_well
t 2 run -m $m --effort huge Hi
failed_well
err_has "'huge' is none of low, high, max"
printf 'Be brief.\n' >system
t 2 run -m $m --system x --system-file system Hi
failed_well
t 3 run -m $m --system-file missing Hi
failed_well
printf 'a\0b' >nul
t 3 chat -m $m --system-file nul
failed_well
err_has 'byte 1: no message holds a NUL'

# the same prompt tokens from --system and --system-file; thinking changes the prompt, and where the text goes
t 0 run -m $m --chat-format deepseek-v3.1 --system 'Be brief.' --temp 0 -n 4 --json Hi
cp out one
t 0 run -m $m --chat-format deepseek-v3.1 --system-file system --temp 0 -n 4 --json Hi
same "$(sed 's/_seconds":[0-9.]*/_seconds":0/g' out)" "$(sed 's/_seconds":[0-9.]*/_seconds":0/g' one)"
silent
t 0 run -m $m --chat-format deepseek-v3.1 --think --temp 0 -n 4 --json Hi
out_has '"text":"","reasoning_content":"'
t 0 run -m $m --chat-format deepseek-v3.1 --think --temp 0 -n 4 Hi
out '\n'
[ -s err ] || complain 'no reasoning on standard error'
t 0 run -q -m $m --chat-format deepseek-v3.1 --think --temp 0 -n 4 Hi
out '\n'
silent
t 0 run -m $m --chat-format chatml --think --temp 0 -n 4 Hi
err 'chatml has no reasoning: there is none to switch on.'
t 0 run -m $m --chat-format qwen3 --effort max --temp 0 -n 4 Hi
err_has 'qwen3 does not tell the model of effort max'
t 0 run -m $m --chat-format deepseek-r1 --no-think --temp 0 -n 4 Hi
err_has 'deepseek-r1 always begins with reasoning'

# commands
input='/help\n'
t 0 chat -m $m
for command in /help /clear /regen /undo /think /nothink /read /save /load /set /show /stats /exit /bye /quit; do
    err_has "$command"
done
input='/show\n/think max\n/think low\n/nothink\n/think\n/show\n'
t 0 chat -m $m --chat-format deepseek-v4
err_has 'chat format: deepseek-v4'
err_has 'thinking: off'
err_has 'thinking: on, effort max'
err_has 'does not tell the model of effort low'
err_has 'messages: 0'
err_has 'context: 0 of'
out ''
input='/think huge\n'
t 2 chat -q -m $m --chat-format deepseek-v4
failed_well
input='/undo\n'
t 2 chat -q -m $m
failed_well
input='/nothink\n'
t 0 chat -m $m --chat-format deepseek-r1
err_has 'thinking: always'

printf 'one\n' >question
input='/read question\n/save talk.json\n/undo\n/show\n/load talk.json\n/save talk.json\n'
t 0 chat -m $m --ctx 512 --chat-format qwen3 --system-file system --temp 0 -n 4
err_has 'Saved 3 messages talk.json.'
err_has 'messages: 1'
err_has '3 messages, thinking off.'
err_has 'Replaced 3 messages talk.json.'
answer=$(cat out)
[ -n "$answer" ] || complain 'no answer to a file'
sed -i 's/"thinking": false/"thinking": true/' talk.json
input='/load talk.json\n/undo\n/nothink\none\n'
t 0 chat -m $m --ctx 512 --chat-format qwen3 --temp 0 -n 4
err_has '3 messages, thinking on.'
same "$(cat out)" "$answer"
input=$(tr -d '\n' <talk.json | sed 's/\\/\\\\/g')
t 0 chat-encode --format qwen3
out_has 'Be brief.'

printf '{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"one"}]}' >asks.json
input='/load asks.json\n/regen\n/show\n'
t 0 chat -m $m --ctx 512 --chat-format qwen3 --temp 0 -n 4
err_has '/regen answers it'
err_has 'messages: 3'
same "$(cat out)" "$answer"

cp talk.json kept.json
input='/load talk.json\n/save kept.json\n'
t 2 chat -q -m $m --ctx 512 --chat-format qwen3
out ''
err_has 'there is such a file'
cmp -s talk.json kept.json || complain 'a file was overwritten'
printf '{"messages":[{"role":"tool","content":"x"}]}' >bad.json
input='/load bad.json\n'
t 3 chat -q -m $m --chat-format qwen3
failed_well
err_has 'load conversation: bad.json, message 1: its role is none of system, user, assistant'
for command in /save /load /read; do
    input="$command\n"
    t 2 chat -q -m $m
    failed_well
done
input='/read nul\n'
t 3 chat -q -m $m
failed_well
head -c 4194305 /dev/zero | tr '\0' a >large
input='/read large\n'
t 3 chat -q -m $m
failed_well
err_has 'at most 4194304 are accepted'

finish
