"""Stop a server in the middle of a stream.  usage: drain.py PORT PID whole|cut

whole: it is given the time to end the stream; cut: it is not, and the stream ends with a proper error."""
import http.client
import json
import os
import signal
import socket
import sys
import threading
import time

port, pid, how = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
body = json.dumps({"prompt": "It was the best of times", "max_tokens": 60 if how == "whole" else 200000, "stream": True,
                   "temperature": 0, "ignore_eos": True})


def post(text):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    c.request("POST", "/v1/completions", text, {"Content-Type": "application/json"})
    return c.getresponse()


answers = [post(body) for _ in range(3)]
first = [a.read(1) for a in answers]
refused = None
kept = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
kept.request("GET", "/health")
kept.getresponse().read()
os.kill(pid, signal.SIGTERM)
time.sleep(0.15)
try:
    kept.request("POST", "/v1/completions", '{"prompt":"a"}', {"Content-Type": "application/json"})
    refused = kept.getresponse()
    refused = refused.status, refused.getheader("Retry-After"), json.loads(refused.read())["error"]["message"]
except (OSError, http.client.HTTPException):
    pass  # it was quicker than we
rests = [a.read() for a in answers]  # IncompleteRead, if one of them is cut off without its last chunk
events = [[json.loads(x[6:]) for x in (f + r).decode().split("\n\n")[:-2] if x[:1] != ":"] for f, r in zip(first, rests)]
assert all((f + r).endswith(b"data: [DONE]\n\n") for f, r in zip(first, rests)), rests
if how == "whole":
    assert all(e[-1]["choices"][0]["finish_reason"] == "length" and e[-1]["usage"]["completion_tokens"] == 60
               for e in events), [e[-1] for e in events]
    assert refused in (None, (503, "5", "the server is shutting down")), refused
else:
    assert all(e[-1]["error"]["message"] == "the server is shutting down" for e in events), [e[-1] for e in events]
    assert refused == (503, "5", "the server is shutting down"), refused
