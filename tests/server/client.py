"""What the tests of a running server share: requests, streams held against their grammars."""
import http.client
import json
import sys

import sse
import sse_anthropic
import sse_openai
import sse_responses
from checks import check, finish  # for those who import this, too

PORT = int(sys.argv[1])


def ask(method, path, body=None, headers=None, source=None):
    """Status, headers, body of the answer.  source: the address that asks."""
    c = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60, source_address=source and (source, 0))
    data = json.dumps(body) if isinstance(body, (dict, list)) else body
    c.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
    r = c.getresponse()
    raw = r.read()
    c.close()
    return r.status, dict(r.getheaders()), raw


def post(path, body, status=200, headers=None):
    got, _, raw = ask("POST", path, body, headers)
    check(got == status, f"POST {path} {str(body)[:80]}: {got}, not {status}: {raw[:200]}")
    try:
        return json.loads(raw)
    except ValueError:
        check(False, f"POST {path}: not JSON: {raw[:200]}")
        return {}


def grammar(path, body, got):
    """The faults of a stream of that route, by the checker of its dialect."""
    if path.endswith("messages"):
        return sse_anthropic.check(got)
    if path.endswith("responses"):
        return sse_responses.check(got)
    asked = bool(body.get("stream_options", {}).get("include_usage"))
    return sse_openai.check(got, chat=path.endswith("chat/completions"), usage_null=asked)


def events(path, body):
    """The data lines of a stream, and its event names."""
    status, headers, raw = ask("POST", path, {**body, "stream": True})
    check(status == 200 and headers["Content-Type"].startswith("text/event-stream"), f"{path}: {status} {headers}")
    got, wrong = sse.split(raw)
    for fault in wrong + grammar(path, body, got):
        check(False, f"{path}: {fault}")
    return [name for name, _ in got if name], [data for _, data in got]


def metric(name):
    text = ask("GET", "/metrics")[2].decode()
    return [float(x.split(" ")[1]) for x in text.splitlines() if x.startswith(name + " ")][0]


CHAT = {"model": "m", "messages": [{"role": "user", "content": "It was the best of times, it was"}], "temperature": 0,
        "max_tokens": 24}
