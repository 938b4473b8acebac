#!/usr/bin/env python3
"""Metrics, slots and fathom ps of a server with two slots, a queue of one and the key "secret".  usage: watch.py PORT BIN"""
import http.client
import json
import re
import socket
import subprocess
import sys
import time

port, fathom = int(sys.argv[1]), sys.argv[2]
KEY = {"Authorization": "Bearer secret"}


def call(method, path, body=None):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    c.request(method, path, json.dumps(body) if body else None, {**KEY, "Content-Type": "application/json"})
    r = c.getresponse()
    return r, r.read().decode()


def metrics():
    """Every line of it fits the format; {name or name{label}: value}."""
    r, text = call("GET", "/metrics")
    assert r.status == 200 and r.headers["Content-Type"].startswith("text/plain; version=0.0.4"), r.status
    values, types = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types and kind in ("counter", "gauge", "histogram"), line
            types[name] = kind
        elif not line.startswith("# HELP "):
            m = re.fullmatch(r'([a-z_]+)(\{[a-z]+="[^"]*"\})? (\S+)', line)
            base = re.sub(r"_(bucket|sum|count)$", "", m[1])
            assert m and (m[1] in types or types.get(base) == "histogram") and m[1] + (m[2] or "") not in values, line
            values[m[1] + (m[2] or "")] = float(m[3])
    return values


def histogram(values, name):
    """Its counts, which must rise to the total."""
    bins = [v for k, v in values.items() if k.startswith(name + "_bucket")]
    assert len(bins) == 19 and bins == sorted(bins) and bins[-1] == values[name + "_count"], bins
    return values[name + "_count"], values[name + "_sum"]


def complete(**more):
    return {"prompt": "It was the best of times", "max_tokens": 12, "ignore_eos": True, "temperature": 0, **more}


def long_stream():
    """A request that goes on until its socket is closed; returned once its first bytes are there."""
    s = socket.create_connection(("127.0.0.1", port))
    body = json.dumps(complete(max_tokens=900, stream=True)).encode()
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\r\nContent-Type: application/json\r\n"
              b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert s.recv(1 << 16).startswith(b"HTTP/1.1 200")
    return s


def wait_until(what, seconds=30):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def ps(*more):
    return subprocess.run([fathom, "ps", "--url", f"http://localhost:{port}/", "--api-key", "secret", *more], capture_output=True,
                          text=True, timeout=60)


before = metrics()
for name in ("fathom_queue_seconds", "fathom_time_to_first_token_seconds", "fathom_inter_token_seconds"):
    assert histogram(before, name) == (0, 0), name
for _ in range(3):
    r, text = call("POST", "/v1/completions", complete())
    assert r.status == 200 and json.loads(text)["usage"]["completion_tokens"] == 12, text
    assert re.fullmatch("[0-9a-f]{24}", r.headers["x-request-id"]) and r.headers["request-id"] == r.headers["x-request-id"]
assert call("GET", "/nowhere")[0].status == 404
after = metrics()
assert histogram(after, "fathom_queue_seconds")[0] == 3
first, first_sum = histogram(after, "fathom_time_to_first_token_seconds")
others, others_sum = histogram(after, "fathom_inter_token_seconds")
assert (first, others) == (3, 33) and first_sum > 0 and others_sum > 0, (first, others)
assert after['fathom_requests_ended_total{reason="length"}'] == 3 and after["fathom_answer_tokens_total"] == 36
assert after['fathom_http_responses_total{status="404"}'] == 1 and after['fathom_http_responses_total{status="200"}'] >= 4
assert after["fathom_slots"] == 2

# a slot at work, as /slots and ps see it
one = long_stream()
wait_until(lambda: any(s["answer_tokens"] > 1 for s in json.loads(call("GET", "/slots")[1])))
busy = [s for s in json.loads(call("GET", "/slots")[1]) if s["is_processing"]]
if busy:  # 900 tokens are not said yet
    assert busy[0]["prompt_done"] == busy[0]["prompt_tokens"] and busy[0]["seconds"] >= busy[0]["answer_seconds"] > 0, busy
one.close()
wait_until(lambda: not any(s["is_processing"] for s in json.loads(call("GET", "/slots")[1])))
ROW = re.compile(r" +0  (answer|prompt) +6/6 +0 +\d+ +(-|[0-9.]+) +[0-9.]+$", re.M)
for _ in range(40):
    one = long_stream()
    seen = ROW.search(ps().stdout)
    bytes_held = metrics()["fathom_kv_bytes"]
    one.close()
    wait_until(lambda: not any(s["is_processing"] for s in json.loads(call("GET", "/slots")[1])))
    if seen and bytes_held > 0:
        break
else:
    sys.exit("ps shows no slot at work")
p = ps()
lines = p.stdout.splitlines()
assert p.returncode == 0 and len(lines) == 4 and re.search(r": 0 of 2 slots busy, 0 waiting, context \d+$", lines[0]), (p.stdout, p.stderr)
assert lines[1].split() == ["SLOT", "STATE", "PROMPT", "CACHED", "ANSWER", "TOKENS/S", "SECONDS"] and lines[2].split() == ["0", "idle"]
told = json.loads(ps("--json").stdout)
assert told["server"]["total_slots"] == 2 and [s["id"] for s in told["slots"]] == [0, 1], told
p = subprocess.run([fathom, "ps", "--url", f"localhost:{port}"], capture_output=True, text=True, timeout=60)
assert p.returncode == 1 and "key" in p.stderr, p.stderr

# two at work, one waits, the fourth is told when to come back
streams, refused = [], None
for _ in range(40):  # the model is quick: some may have ended meanwhile
    streams.append(long_stream())
    r, text = call("GET", "/props")
    if json.loads(text)["waiting"] == 1:
        r, text = call("POST", "/v1/completions", complete(max_tokens=1))
        if r.status == 429:
            refused = r
            break
r, text = call("GET", "/slots?fail_on_no_slot=1")
if refused and r.status == 200:  # answers have ended meanwhile
    assert not all(s["is_processing"] for s in json.loads(text)), text
assert r.status in (200, 503) and len(json.loads(call("GET", "/slots?fail_on_no_slot=0")[1])) == 2
assert refused and 1 <= int(refused.headers["Retry-After"]) <= 60, "nobody was refused"
for s in streams:
    s.close()
wait_until(lambda: metrics()["fathom_requests_running"] == 0 and metrics()["fathom_requests_waiting"] == 0)
assert metrics()["fathom_requests_refused_total"] >= 1
