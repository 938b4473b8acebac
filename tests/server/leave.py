#!/usr/bin/env python3
"""A client leaves in each phase of a request; the slot is free within 100 ms (the best of three, for this machine may be busy).
usage: leave.py PORT"""
import functools
import json
import random
import re
import socket
import sys
import time
import urllib.request

PORT = int(sys.argv[1])


def metrics():
    text = urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=60).read().decode()
    return {k: float(v) for k, v in re.findall(r"^(\S+) (\S+)$", text, re.M)}


def slots():
    return json.load(urllib.request.urlopen(f"http://127.0.0.1:{PORT}/slots", timeout=60))


def begin(path, body):
    s = socket.create_connection(("127.0.0.1", PORT), timeout=60)
    data = json.dumps({"temperature": 0, "ignore_eos": True, **body}).encode()
    s.sendall(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
              % (path.encode(), len(data)) + data)
    return s


def received(s, seconds):
    """What comes within a time."""
    end, out = time.monotonic() + seconds, b""
    while (left := end - time.monotonic()) > 0:
        s.settimeout(left)
        try:
            out += s.recv(1 << 16)
        except TimeoutError:
            break
    return out


def seconds_to_notice(s):
    before = metrics()
    start = time.monotonic()
    s.close()
    while (now := metrics())["fathom_requests_running"]:
        assert time.monotonic() < start + 30, "the slot is not free"
    took = time.monotonic() - start
    name = 'fathom_requests_ended_total{reason="cancelled"}'
    return took if now[name] == before[name] + 1 else 1e9, before, now  # 1e9: it had ended by itself


def wait_for_slot(s, what):
    end = time.monotonic() + 20
    while not any(x["is_processing"] and what(x) for x in slots()):
        if time.monotonic() > end:
            sys.exit(f"it is not at work: {received(s, 1)[-500:]}")


def prompt():
    """Of two thousand tokens, gone in the middle: most of them are never computed."""
    ids = [random.randrange(1000, 4000) for _ in range(2000)]
    s = begin("/v1/completions", {"prompt": ids, "max_tokens": 1, "stream": True})
    wait_for_slot(s, lambda x: x["prompt_tokens"] == 2000)
    took, before, now = seconds_to_notice(s)
    computed = now["fathom_prompt_tokens_total"] - before["fathom_prompt_tokens_total"]
    assert computed < 2000 and now["fathom_answer_tokens_total"] == before["fathom_answer_tokens_total"], computed
    return took


def answer():
    s = begin("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 3000, "stream": True})
    wait_for_slot(s, lambda x: x["answer_tokens"] > 2)
    assert b'"text"' in received(s, 0.1)
    return seconds_to_notice(s)[0]


def silent_answer():
    s = begin("/v1/completions", {"prompt": "Once upon a time", "max_tokens": 3000})
    wait_for_slot(s, lambda x: x["answer_tokens"] > 2)
    assert received(s, 0.1) == b""
    return seconds_to_notice(s)[0]


def call(path, letters):
    """A stream that says nothing until the name of the tool it must call is whole, which takes as many letters."""
    name = "".join(random.choices("bcdfghjklmnpqrstvwxz", k=letters))
    fields = {"type": "object", "properties": {}, "additionalProperties": False}
    f = {"name": name, "parameters": fields}
    body = {"stream": True, "messages": [{"role": "user", "content": "Do it."}], "max_tokens": 3000}
    if path == "/v1/messages":
        tools = {"tools": [{"name": name, "input_schema": fields}], "tool_choice": {"type": "tool", "name": name}}
    elif path == "/v1/responses":
        body = {"stream": True, "input": "Do it.", "max_output_tokens": 3000}
        tools = {"tools": [{"type": "function", **f}], "tool_choice": {"type": "function", "name": name}}
    else:
        tools = {"tools": [{"type": "function", "function": f}], "tool_choice": {"type": "function", "function": {"name": name}}}
    return name.encode(), begin(path, {**body, **tools})


# that there is a call, and that it was all of the answer
TOLD = {"/v1/chat/completions": (b'"tool_calls"', b'"finish_reason":"tool_calls"'), "/v1/messages": (b'"tool_use"', b'"stop_reason":"tool_use"'),
        "/v1/responses": (b"response.output_item.added", b"event: response.completed")}


def withheld(path):
    """Left while a call is still being collected, far from its end; left alone, such a stream ends with the call."""
    name, s = call(path, 60)
    got = b""
    while name not in got or any(mark not in got for mark in TOLD[path]):
        got += s.recv(1 << 16) or sys.exit(f"{path}: no call came: {got[-500:]}")
    while metrics()["fathom_requests_running"]:
        pass
    name, s = call(path, 1500)
    wait_for_slot(s, lambda x: x["answer_tokens"] > 20)
    told = received(s, 0.1)
    now = [x for x in slots() if x["is_processing"]]
    assert told.startswith(b"HTTP/1.1 200") and TOLD[path][0] not in told, f"{path}: it is not withheld: {told}"
    took, before, after = seconds_to_notice(s)
    said = after["fathom_answer_tokens_total"] - before["fathom_answer_tokens_total"]
    assert len(now) == 1 and now[0]["answer_tokens"] > 20 and said < 1000, f"{path}: {said} tokens more, {now}"
    return took


bad = 0
phases = {phase.__name__: phase for phase in (prompt, answer, silent_answer)}
phases.update({"withheld by " + path: functools.partial(withheld, path) for path in TOLD})
for name, phase in phases.items():
    best = min(phase() for _ in range(3))
    print(f"{name}: {1e3 * best:.0f} ms")
    bad += best > 0.1
sys.exit(bad)
