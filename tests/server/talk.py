"""Speak with a running server the way clients do, and the way they should not.  usage: talk.py PORT PID [KEY]

Prints a line for each thing that is not as it should be; exit code 1 then."""
import json
import socket
import sys
import threading
import time

from client import CHAT, PORT, ask, check, events, finish, metric, post


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
    first = post("/tokenize", {"content": text})["tokens"][0]
    never = post("/chat/completions", {**CHAT, "logprobs": True, "logit_bias": {str(first): -100}})["choices"][0]
    check(never["logprobs"]["content"][0]["token"] != probs[0]["token"], f"logit_bias -100 forbids: {never}")
    always = post("/chat/completions", {**CHAT, "max_tokens": 3, "logit_bias": {str(first): 100}})["choices"][0]
    check(always["message"]["content"] == probs[0]["token"] * 3, f"logit_bias 100 forces: {always}")
    once = post("/chat/completions", {**CHAT, "logprobs": True, "presence_penalty": 2, "frequency_penalty": 2,
                                      "logit_bias": {str(first): 60}, "max_tokens": 40})["choices"][0]["logprobs"]["content"]
    count = sum(p["token"] == probs[0]["token"] for p in once)
    check(15 < count < 40, f"a bias of 60 lasts until n penalties of 2 have eaten it: {count}")
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


def response_events(path, body, want_names=None):
    names, data = events(path, body)
    chunks = [json.loads(x) for x in data]
    check(names == [c["type"] for c in chunks], f"{path}: event names are types")
    return names, chunks


def openai_responses(text):
    prompt = CHAT["messages"][0]["content"]
    body = {"model": "m", "input": prompt, "temperature": 0, "max_output_tokens": 24}
    whole = post("/v1/responses", body)
    check(whole["object"] == "response" and whole["id"].startswith("resp_"), f"responses: {whole}")
    check(whole["status"] == "incomplete" and whole["incomplete_details"] == {"reason": "max_output_tokens"}, f"{whole}")
    item, usage = whole["output"][0], whole["usage"]
    check(item["type"] == "message" and item["role"] == "assistant" and item["status"] == "incomplete", f"item: {item}")
    check(item["content"] == [{"type": "output_text", "annotations": [], "logprobs": [], "text": text}], f"item: {item}")
    check(usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] and usage["output_tokens"] == 24
          and set(usage["input_tokens_details"]) == {"cached_tokens", "cache_write_tokens"}
          and usage["output_tokens_details"] == {"reasoning_tokens": 0}, f"usage: {usage}")
    names, chunks = response_events("/responses", body)
    want = ["created", "in_progress", "output_item.added", "content_part.added"]
    want += ["output_text.delta"] * (len(names) - 8) + ["output_text.done", "content_part.done", "output_item.done",
                                                        "incomplete"]
    check(names == ["response." + w for w in want], f"responses: order: {names}")
    deltas = [c for c in chunks if c["type"] == "response.output_text.delta"]
    check("".join(c["delta"] for c in deltas) == text, "responses: the stream's text")
    check(len({(c["item_id"], c["output_index"], c["content_index"]) for c in deltas}) == 1, "responses: one item")
    last = chunks[-1]["response"]
    check(last["output"] == [chunks[-2]["item"]] and chunks[-2]["item"]["content"][0]["text"] == text, f"last: {last}")
    check(chunks[2]["item"]["id"] == chunks[-2]["item"]["id"] == deltas[0]["item_id"], "responses: the item's id")
    check(last["id"] == chunks[0]["response"]["id"] and chunks[0]["response"]["output"] == [], "responses: one answer")
    stop = text[3:6]
    done = response_events("/v1/responses", {**body, "stop": [stop]})[1][-1]
    check(done["type"] == "response.completed" and done["response"]["status"] == "completed", f"completed: {done}")
    check(done["response"]["output"][0]["content"][0]["text"] == text[:text.index(stop)], f"completed: {done}")
    # what clients of agents send: everything that is not understood is passed over
    items = [{"type": "message", "role": "developer", "content": [{"type": "input_text", "text": prompt}]},
             {"type": "web_search_call", "id": "ws_1", "status": "completed"}]
    agent = {**body, "input": items, "tools": [{"type": "web_search"}, {"type": "custom", "name": "x"}, {"type": "namespace"}],
             "store": False, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "k", "tool_choice": "auto",
             "parallel_tool_calls": False, "reasoning": {"effort": "medium", "summary": "auto"}, "truncation": "auto",
             "text": {"format": {"type": "text"}, "verbosity": "low"}, "previous_response_id": "resp_1"}
    check(post("/v1/responses", agent)["output"][0]["content"][0]["text"] == text, "an agent's request")
    history = [{"role": "user", "content": "a"}, {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "b"}]},
               {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"x":  1.0}'},
               {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "d"}]},
               {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "e"}]}]
    got = post("/v1/responses", {**body, "input": history}, 400)  # this model's format has no words for calls: it arrived
    check("message 2: it has no tool calls" in got["error"]["message"], f"a history with a call: {got}")
    for wrong, status, param in [
        ({}, 400, "input"), ({"input": []}, 400, "input"), ({"input": 5}, 400, "input"), ({"input": [5]}, 400, "input"),
        ({"input": [{"role": "robot", "content": "x"}]}, 400, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, 400, "input"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, 400, "input"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": {}}]}, 400, "input"),
        ({"input": "x", "max_output_tokens": 0}, 422, "max_output_tokens"), ({"input": "x", "tools": {}}, 400, "tools"),
        ({"input": "x", "tool_choice": "required"}, 400, "tool_choice"),
        ({"input": "x", "text": {"format": {"type": "xml"}}}, 400, "text.format"),
        ({"input": "x", "reasoning": {"effort": "silly"}}, 400, "reasoning.effort"),
        ({"input": "x", "reasoning": {"effort": 3}}, 400, "reasoning.effort"), ({"input": "word " * 5000}, 400, None),
    ]:
        for stream in (False, True):
            got = post("/v1/responses", {**wrong, "stream": stream}, status)
            check(got.get("error", {}).get("param") == param, f"{str(wrong)[:60]}: {got}")


def lines(path, body):
    """The objects of an NDJSON stream."""
    status, headers, raw = ask("POST", path, body)
    check(status == 200 and headers["Content-Type"] == "application/x-ndjson", f"{path}: {status} {headers}")
    got = [json.loads(x) for x in raw.decode().splitlines()]
    check([x["done"] for x in got] == [False] * (len(got) - 1) + [True], f"{path}: done once, at the end: {got}")
    return got


def ollama(text):
    check(ask("GET", "/")[0] == 200 and ask("HEAD", "/")[0] == 200, "the root answers")
    check(all(x.isdigit() for x in json.loads(ask("GET", "/api/version")[2])["version"].split(".")), "a numeric version")
    model = json.loads(ask("GET", "/api/tags")[2])["models"][0]
    check(model["name"] == model["model"] and model["size"] > 0 and model["details"]["format"] == "gguf", f"tags: {model}")
    show = post("/api/show", {"model": model["name"]})
    arch = show["model_info"]["general.architecture"]
    check(show["model_info"][arch + ".context_length"] > 0 and "completion" in show["capabilities"], f"show: {show}")
    body = {"model": "m", "messages": CHAT["messages"], "options": {"temperature": 0, "num_predict": 24, "num_ctx": 4096}}
    got = lines("/api/chat", body)
    check("".join(x["message"]["content"] for x in got) == text, f"chat: {got}")
    last = got[-1]
    check(last["done_reason"] == "length" and last["eval_count"] == 24 and last["prompt_eval_count"] > 0, f"last: {last}")
    check(last["total_duration"] >= last["eval_duration"] > 0 and last["load_duration"] == 0, f"last: {last}")
    whole = post("/api/chat", {**body, "stream": False, "think": False, "keep_alive": "5m"})
    check(whole["message"] == {"role": "assistant", "content": text} and whole["done"], f"chat: {whole}")
    prompt = CHAT["messages"][0]["content"]
    for raw in (False, True):
        got = lines("/api/generate", {"model": "m", "prompt": prompt, "options": body["options"], "raw": raw})
        check("".join(x["response"] for x in got) == text, f"generate: {got}")
    stop = {**body["options"], "stop": [text[3:6]]}
    whole = post("/api/generate", {"prompt": prompt, "stream": False, "options": stop})
    check(whole["response"] == text[:text.index(text[3:6])] and whole["done_reason"] == "stop", f"generate: {whole}")
    check(post("/api/generate", {"model": "m"})["done_reason"] == "load", "nothing to answer")
    check(post("/api/chat", {"model": "m", "messages": []})["done_reason"] == "load", "nothing to answer")
    for path, wrong, status in [
        ("chat", "{", 400), ("chat", {"messages": 5}, 400), ("chat", {"messages": [{"content": "x"}]}, 400),
        ("chat", {**body, "format": "xml"}, 400), ("chat", {**body, "options": 5}, 400), ("chat", {**body, "think": 5}, 400),
        ("chat", {**body, "options": {"temperature": 9}}, 422), ("chat", {**body, "think": "silly"}, 400),
        ("chat", {"messages": [{"role": "user", "content": "x", "images": ["aa"]}]}, 400),
        ("generate", {"prompt": 5}, 400), ("generate", {"prompt": "x", "suffix": "y"}, 400),
        ("generate", {"prompt": "word " * 5000}, 400), ("generate", {"prompt": "x", "images": ["aa"]}, 400),
    ]:
        got = post("/api/" + path, wrong, status)
        check(set(got) == {"error"} and isinstance(got["error"], str), f"{str(wrong)[:60]}: {got}")
    for path in ("/v1/api/version", "/v1/", "/beta/api/tags"):
        check(ask("GET", path)[0] == 404, f"{path}: at the root only")


def wrong_requests():
    bad = CHAT["messages"]
    for body, status, param in [
        ("{", 400, None), ("[]", 400, None), ('{"messages":"x"}', 400, "messages"), ({"messages": []}, 400, "messages"),
        ({"messages": bad, "temperature": 2.5}, 422, "temperature"), ({"messages": bad, "temperature": "1"}, 400, "temperature"),
        ({"messages": bad, "max_tokens": 0}, 422, "max_tokens"), ({"messages": bad, "max_tokens": 1.5}, 400, "max_tokens"),
        ({"messages": bad, "top_p": 0}, 422, "top_p"), ({"messages": bad, "logit_bias": []}, 400, "logit_bias"),
        ({"messages": bad, "logit_bias": {"x": 1}}, 400, "logit_bias"), ({"messages": bad, "logit_bias": {"1": 101}}, 422, "logit_bias"),
        ({"messages": bad, "logit_bias": {"99999999": 1}}, 400, None), ({"messages": bad, "presence_penalty": 3}, 422, "presence_penalty"), ({"messages": bad, "stop": [1]}, 400, "stop"),
        ({"messages": bad, "stop": ["a"] * 17}, 422, "stop"), ({"messages": bad, "stream": "yes"}, 400, "stream"),
        ({"messages": bad, "stream_options": {}}, 400, "stream_options"), ({"messages": bad, "n": 0}, 422, "n"),
        ({"messages": bad, "response_format": {"type": "xml"}}, 400, "response_format"),
        ({"messages": bad, "top_logprobs": 2}, 400, "top_logprobs"), ({"messages": [{"role": "x"}]}, 400, None),
        ({"messages": [{"role": "user", "content": "word " * 5000}]}, 400, None),
        ('{"a":' * 5000 + "1" + "}" * 5000, 400, None), ('{"messages":"\xff"}'.encode("latin-1"), 400, None),
    ]:
        got = post("/v1/chat/completions", body, status)
        check(set(got.get("error", {})) == {"message", "type", "param", "code"}, f"{str(body)[:60]}: {got}")
        check(got["error"]["param"] == param, f"{str(body)[:60]}: {got}")
    long = post("/v1/chat/completions", {"messages": bad, "reasoning_effort": "x" + "ä" * 50}, 400)["error"]["message"]
    check(long.startswith("reasoning_effort"), f"a name that is cut: {long}")
    check(post("/v1/messages", {"messages": bad}, 400)["type"] == "error", "Anthropic's shape of faults")
    for method, path, status in [("GET", "/nothing", 404), ("GET", "/v1/chat/completions", 405), ("POST", "/health", 405),
                                 ("GET", "/v1/../etc/passwd", 404), ("GET", "/%00", 404), ("OPTIONS", "/v1/models", 204)]:
        got = ask(method, path)[0]
        check(got == status, f"{method} {path}: {got}, not {status}")
    check(ask("POST", "/v1/chat/completions", "a=b", {"Content-Type": "text/plain"})[0] == 415, "forms are refused")
    for origin, status in [({}, 200), ({"Origin": "http://localhost"}, 415)]:
        got = ask("POST", "/api/generate", '{"model":"m"}', {"Content-Type": "application/x-www-form-urlencoded", **origin})[0]
        check(got == status, f"a form's type at Ollama's routes {origin}: {got}")
    check(ask("GET", "/v1/models", headers={"Host": "evil.example"})[0] == 403, "DNS rebinding")
    check(ask("GET", "/v1/models", headers={"Origin": "http://evil.example"})[0] == 403, "a foreign page")
    check(ask("GET", "/v1/models", headers={"Origin": "http://localhost:3000"})[1]["Access-Control-Allow-Origin"]
          == "http://localhost:3000", "an own page")
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-stainless-os,x-my-own"}
    for origin, allowed in (("http://localhost:3000", True), ("http://evil.example", False)):
        status, got, _ = ask("OPTIONS", "/v1/chat/completions", headers={"Origin": origin, **asked})
        want = {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Headers": asked["Access-Control-Request-Headers"],
                "Access-Control-Allow-Methods": "GET, POST"} if allowed else {}
        check(status == 204 and {k: v for k, v in got.items() if k.startswith("Access-Control-")} == want, f"preflight of {origin}: {got}")
    got = ask("OPTIONS", "/v1/models", headers={"Origin": "http://localhost"})[1]
    check("Access-Control-Allow-Headers" not in got and got["Access-Control-Allow-Origin"] == "http://localhost", f"no headers asked: {got}")
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
    props = json.loads(ask("GET", "/props")[2])
    check(props["total_slots"] == 4 and set(props["sandbox"]) == {"files", "calls"}, f"props: {props}")
    text = openai_chat()
    openai_completions(text)
    openai_responses(text)
    anthropic(text)
    ollama(text)
    wrong_requests()
    broken_clients()
    company(text)


main()
finish()
