#!/usr/bin/env bash
# Messages to prompts and answers to messages, exact bytes and failures.
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

finish
