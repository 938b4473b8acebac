#!/usr/bin/env python3
"""What usage, the ledger and fathom cost say, against each other.  usage: cost.py PORT BIN LEDGER [again]
First with keys k1 (alice) and k2 (bob), prices 2, 0.5 and 8; again: without either, in the same ledger."""
import http.client
import json
import subprocess
import sys

port, fathom, ledger, again = int(sys.argv[1]), sys.argv[2], sys.argv[3], len(sys.argv) > 4
TEXT = "It was the best of times " * 12  # some whole blocks of the cache


def ask(path, body, key="k1"):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    c.request("POST", path, json.dumps({"max_tokens": 9, "max_output_tokens": 9, "temperature": 0, "ignore_eos": True, **body}), headers)
    r = c.getresponse()
    text = r.read().decode()
    assert r.status == 200, (r.status, text)
    return r.headers["x-request-id"], text


def price(prompt, cached, answer):
    return 1e-6 * ((prompt - cached) * 2 + cached * 0.5 + answer * 8)


def close(a, b):
    return abs(a - b) <= 1e-8 * max(abs(a), abs(b))


def lines():
    return [json.loads(x) for x in open(ledger)]


def summed(*more):
    out = subprocess.run([fathom, "cost", ledger, "--json", *more], capture_output=True, text=True, check=True).stdout
    return {s["key"]: s for s in map(json.loads, out.splitlines())}


talk = [{"role": "user", "content": TEXT}]
if again:
    before = len(lines())
    _, text = ask("/v1/chat/completions", {"messages": talk})
    assert "cost" not in json.loads(text)["usage"]
    new = lines()[before:]
    _, text = ask("/v1/completions", {"prompt": TEXT, "max_tokens": 21})
    choice, u = json.loads(text)["choices"][0], json.loads(text)["usage"]
    assert (u["completion_tokens"], choice["finish_reason"]) == (20, "length"), text  # --request-tokens
    assert len(new) == 1 and new[0]["key"] == "" and "cost" not in new[0], new
    assert summed()[""]["requests"] == 2
    sys.exit()

for key, name in (("k1", "alice"), ("k2", "bob"), ("k1", "alice")):
    ident, text = ask("/v1/chat/completions", {"messages": talk}, key)
    u, line = json.loads(text)["usage"], lines()[-1]
    assert u["completion_tokens"] == 9 and close(u["cost"], price(u["prompt_tokens"], u["prompt_cache_hit_tokens"], 9)), u
    assert (line["id"], line["key"], line["path"]) == (ident, name, "/v1/chat/completions"), line
    assert (line["prompt_tokens"], line["cached_tokens"], line["answer_tokens"]) == (u["prompt_tokens"], u["prompt_cache_hit_tokens"], 9)
    assert close(line["cost"], u["cost"]) and line["seconds"] > 0
assert u["prompt_cache_hit_tokens"] >= 64, u  # alice's second: found, and cheaper
_, text = ask("/v1/responses", {"input": "It was the best of times"})
u = json.loads(text)["usage"]
assert close(u["cost"], price(u["input_tokens"], u["input_tokens_details"]["cached_tokens"], u["output_tokens"])), u
_, text = ask("/v1/messages", {"messages": talk}, "k2")
u = json.loads(text)["usage"]
assert close(u["cost"], price(u["input_tokens"] + u["cache_read_input_tokens"], u["cache_read_input_tokens"], u["output_tokens"])), u
_, text = ask("/v1/chat/completions", {"messages": talk, "stream": True, "stream_options": {"include_usage": True}}, "k2")
u = [json.loads(x[6:]).get("usage") for x in text.split("\n\n") if x.startswith("data: {")]
assert [bool(x) for x in u].count(True) == 1 and u[-1]["cost"] > 0, u
_, text = ask("/v1/completions", {"prompt": TEXT, "n": 2}, "k2")
u = json.loads(text)["usage"]
assert u["completion_tokens"] == 18 and close(u["cost"], price(u["prompt_tokens"], u["prompt_cache_hit_tokens"], 18)), u

all_lines, by_key = lines(), summed()
assert len(all_lines) == 7 and set(by_key) == {"alice", "bob"}, all_lines
for key, s in by_key.items():
    mine = [x for x in all_lines if x["key"] == key]
    assert s["requests"] == len(mine) and close(s["cost"], sum(x["cost"] for x in mine)), s
    for field in ("prompt_tokens", "cached_tokens", "answer_tokens"):
        assert s[field] == sum(x[field] for x in mine), s
assert summed("--until", all_lines[0]["time"][:4]) == {} and summed("--since", all_lines[0]["time"][:10]) == by_key
table = subprocess.run([fathom, "cost", ledger], capture_output=True, text=True, check=True).stdout.splitlines()
assert len(table) == 4 and table[0].split()[:2] == ["KEY", "REQUESTS"] and table[3].split()[:2] == ["all", "7"], table
