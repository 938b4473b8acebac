"""Speak with a running server the way clients do, and the way they should not.  usage: talk.py PORT PID [KEY]

Prints a line for each thing that is not as it should be; exit code 1 then."""
import http.client
import json
import socket
import sys
import threading
import time

PORT = int(sys.argv[1])
failures = 0


def check(ok, what):
    global failures
    if not ok:
        failures += 1
        print(what)


def ask(method, path, body=None, headers=None):
    c = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
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


def events(path, body):
    """The data lines of a stream, and its event names."""
    status, headers, raw = ask("POST", path, {**body, "stream": True})
    check(status == 200 and headers["Content-Type"].startswith("text/event-stream"), f"{path}: {status} {headers}")
    names, data = [], []
    for block in raw.decode().split("\n\n"):
        for line in block.split("\n"):
            check(not line.startswith("id:"), f"{path}: an id line: {line}")
            if line.startswith("event: "):
                names.append(line[7:])
            if line.startswith("data: "):
                data.append(line[6:])
    return names, data


def metric(name):
    text = ask("GET", "/metrics")[2].decode()
    return [float(x.split(" ")[1]) for x in text.splitlines() if x.startswith(name + " ")][0]


CHAT = {"model": "m", "messages": [{"role": "user", "content": "It was the best of times, it was"}], "temperature": 0,
        "max_tokens": 24}


def openai_chat():
    whole = post("/v1/chat/completions", CHAT)
    choice, usage = whole["choices"][0], whole["usage"]
    text = choice["message"]["content"]
    check(whole["object"] == "chat.completion" and whole["id"].startswith("chatcmpl-"), f"head: {whole}")
    check(choice["finish_reason"] in ("stop", "length") and choice["index"] == 0, f"choice: {choice}")
    check(usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"], f"usage: {usage}")
    check(usage["prompt_tokens"] == usage["prompt_cache_hit_tokens"] + usage["prompt_cache_miss_tokens"], f"{usage}")
    for prefix in ("", "/v1", "/beta"):
        _, data = events(prefix + "/chat/completions", {**CHAT, "stream_options": {"include_usage": True}})
        chunks = [json.loads(x) for x in data[:-1]]
        check(data[-1] == "[DONE]", f"{prefix}: ends with {data[-1]}")
        check(chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}, f"first: {chunks[0]}")
        check("".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == text, f"{prefix}: another text")
        check(len({c["id"] for c in chunks}) == 1 and all(len(c["choices"]) == 1 for c in chunks), "ids, choices")
        check([bool(c["usage"]) for c in chunks] == [False] * (len(chunks) - 1) + [True], "usage once, at the end")
        check(all(c["choices"][0]["finish_reason"] is None for c in chunks[:-1]), "finish_reason early")
        check(chunks[-1]["choices"][0]["finish_reason"] == choice["finish_reason"], "finish_reason")
    stop = post("/v1/chat/completions", {**CHAT, "stop": [text[3:6]]})
    check(stop["choices"][0]["message"]["content"] == text[:text.index(text[3:6])], f"stop: {stop}")
    check(stop["choices"][0]["finish_reason"] == "stop", f"stop: {stop}")
    probs = post("/chat/completions", {**CHAT, "logprobs": True, "top_logprobs": 3})["choices"][0]["logprobs"]["content"]
    check(len(probs) == usage["completion_tokens"] and all(len(p["top_logprobs"]) == 3 for p in probs), f"{probs}")
    check("".join(p["token"] for p in probs) == text, f"tokens: {probs}")
    check(all(p["logprob"] == p["top_logprobs"][0]["logprob"] for p in probs), "greedy takes the likeliest")
    seeds = [post("/chat/completions", {**CHAT, "temperature": 1, "seed": s})["choices"][0] for s in (1, 1, 2)]
    check(seeds[0] == seeds[1] != seeds[2], "a seed decides")
    return text


def openai_completions(text):
    prompt = CHAT["messages"][0]["content"]
    body = {"model": "m", "prompt": prompt, "temperature": 0, "max_tokens": 24}
    whole = post("/v1/completions", body)
    check(whole["choices"][0]["text"] == text, f"a model without chat format continues: {whole}")
    ids = post("/tokenize", {"content": prompt, "add_special": True})["tokens"]
    check(post("/v1/completions", {**body, "prompt": ids})["choices"][0]["text"] == text, "ids are a prompt, too")
    check(prompt in post("/detokenize", {"tokens": ids})["content"], "detokenize")
    _, data = events("/v1/completions", body)
    check("".join(json.loads(x)["choices"][0]["text"] for x in data[:-1]) == text, "completions: the stream's text")
    echo = post("/v1/completions", {**body, "prompt": ids, "echo": True, "logprobs": 1, "max_tokens": 0})["choices"][0]
    probs = echo["logprobs"]
    check(len(probs["tokens"]) == len(ids) and probs["token_logprobs"][0] is None, f"echo: {echo}")
    check(all(x < 0 for x in probs["token_logprobs"][1:]), f"echo: {probs}")
    check(prompt in echo["text"], f"echo: {echo}")


def anthropic(text):
    body = {"model": "claude-any", "max_tokens": 24, "temperature": 0, "messages": CHAT["messages"]}
    whole = post("/anthropic/v1/messages", body)
    check(whole["content"] == [{"type": "text", "text": text}], f"messages: {whole}")
    check(whole["type"] == "message" and whole["role"] == "assistant", f"messages: {whole}")
    names, data = events("/v1/messages", body)
    chunks = [json.loads(x) for x in data]
    check(names == [c["type"] for c in chunks], "event names are types")
    want = ["message_start", "content_block_start"] + ["content_block_delta"] * (len(names) - 5)
    check(names == want + ["content_block_stop", "message_delta", "message_stop"], f"order: {names}")
    check("".join(c["delta"]["text"] for c in chunks if c["type"] == "content_block_delta") == text, "stream's text")
    check(post("/v1/messages/count_tokens", body)["input_tokens"] == whole["usage"]["input_tokens"]
          + whole["usage"]["cache_read_input_tokens"], "count_tokens")
    blocks = {**body, "system": [{"type": "text", "text": "x-anthropic-billing-header: a; cch=1"}],
              "messages": [{"role": "user", "content": [{"type": "text", "text": CHAT["messages"][0]["content"]}]}]}
    check(post("/v1/messages", blocks)["content"][0]["text"] == text, "the billing header is not part of the prompt")


def wrong_requests():
    bad = CHAT["messages"]
    for body, status, param in [
        ("{", 400, None), ("[]", 400, None), ('{"messages":"x"}', 400, "messages"), ({"messages": []}, 400, "messages"),
        ({"messages": bad, "temperature": 2.5}, 422, "temperature"), ({"messages": bad, "temperature": "1"}, 400, "temperature"),
        ({"messages": bad, "max_tokens": 0}, 422, "max_tokens"), ({"messages": bad, "max_tokens": 1.5}, 400, "max_tokens"),
        ({"messages": bad, "top_p": 0}, 422, "top_p"), ({"messages": bad, "stop": [1]}, 400, "stop"),
        ({"messages": bad, "stop": ["a"] * 17}, 422, "stop"), ({"messages": bad, "stream": "yes"}, 400, "stream"),
        ({"messages": bad, "stream_options": {}}, 400, "stream_options"), ({"messages": bad, "n": 2}, 400, "n"),
        ({"messages": bad, "response_format": {"type": "json_object"}}, 400, "response_format"),
        ({"messages": bad, "top_logprobs": 2}, 400, "top_logprobs"), ({"messages": [{"role": "x"}]}, 400, None),
        ({"messages": [{"role": "user", "content": "word " * 5000}]}, 400, None),
        ('{"a":' * 5000 + "1" + "}" * 5000, 400, None), ('{"messages":"\xff"}'.encode("latin-1"), 400, None),
    ]:
        got = post("/v1/chat/completions", body, status)
        check(set(got.get("error", {})) == {"message", "type", "param", "code"}, f"{str(body)[:60]}: {got}")
        check(got["error"]["param"] == param, f"{str(body)[:60]}: {got}")
    check(post("/v1/messages", {"messages": bad}, 400)["type"] == "error", "Anthropic's shape of faults")
    for method, path, status in [("GET", "/nothing", 404), ("GET", "/v1/chat/completions", 405), ("POST", "/health", 405),
                                 ("GET", "/v1/../etc/passwd", 404), ("GET", "/%00", 404), ("OPTIONS", "/v1/models", 204)]:
        got = ask(method, path)[0]
        check(got == status, f"{method} {path}: {got}, not {status}")
    check(ask("POST", "/v1/chat/completions", "a=b", {"Content-Type": "text/plain"})[0] == 415, "forms are refused")
    check(ask("GET", "/v1/models", headers={"Host": "evil.example"})[0] == 403, "DNS rebinding")
    check(ask("GET", "/v1/models", headers={"Origin": "http://evil.example"})[0] == 403, "a foreign page")
    check(ask("GET", "/v1/models", headers={"Origin": "http://localhost:3000"})[1]["Access-Control-Allow-Origin"]
          == "http://localhost:3000", "an own page")
    check(ask("POST", "/v1/chat/completions", None, {"Content-Length": str(1 << 40)})[0] == 413, "a body of a terabyte")


def raw_bytes(data, half_close=False):
    s = socket.create_connection(("127.0.0.1", PORT), timeout=20)
    s.sendall(data)
    if half_close:
        s.shutdown(socket.SHUT_WR)
    return s


def broken_clients():
    body = json.dumps({**CHAT, "max_tokens": 200, "stream": True})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    before = metric('fathom_requests_ended_total{reason="cancelled"}')
    for i in range(20):  # gone after the first bytes, politely or not
        s = raw_bytes((head + f"Content-Length: {len(body)}\r\n\r\n" + body).encode())
        s.recv(100)
        if i % 2:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        s.close()
    for data in [b"\0" * 100, b"GET / HTTP/9.9\r\n\r\n", b"GET " + b"/" * 20000, head.encode() + b"Content-Length: 5\r\n\r\n{",
                 head.encode() + b"X: " + b"y" * 50000 + b"\r\n\r\n", head.encode() + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"]:
        raw_bytes(data).close()
    for _ in range(100):
        if metric("fathom_requests_running") == 0 and metric("fathom_requests_waiting") == 0:
            break
        time.sleep(0.05)
    check(metric("fathom_requests_running") == 0, "slots are free again")
    check(metric('fathom_requests_ended_total{reason="cancelled"}') > before, "hang-ups cancel")


def company(text):
    """Many at once get what one alone gets."""
    answers = [None] * 24

    def one(i):
        answers[i] = post("/v1/chat/completions", {**CHAT, "max_tokens": 24 - i % 3})["choices"][0]["message"]["content"]

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(answers))]
    [t.start() for t in threads]
    [t.join() for t in threads]
    check(all(a and text.startswith(a) for a in answers), f"company: {answers} {text}")


def main():
    if len(sys.argv) > 2:  # with keys
        check(ask("GET", "/v1/models")[0] == 401, "without a key")
        check(ask("GET", "/v1/models", headers={"Authorization": "Bearer wrong"})[0] == 401, "with a wrong key")
        check(post("/v1/messages", {}, 401)["error"]["type"] == "authentication_error", "in Anthropic's shape")
        for h in ({"Authorization": "Bearer " + sys.argv[2]}, {"x-api-key": sys.argv[2]}):
            check(ask("GET", "/v1/models", headers=h)[0] == 200, f"with {h}")
        check(ask("GET", "/health")[0] == 200, "health needs none")
        return
    check(json.loads(ask("GET", "/health")[2]) == {"status": "ok"}, "health")
    check(json.loads(ask("GET", "/v1/models")[2])["data"][0]["object"] == "model", "models")
    check(len(json.loads(ask("GET", "/slots")[2])) == 4, "slots")
    check(json.loads(ask("GET", "/props")[2])["total_slots"] == 4, "props")
    text = openai_chat()
    openai_completions(text)
    anthropic(text)
    wrong_requests()
    broken_clients()
    company(text)


main()
sys.exit(1 if failures else 0)
