"""Embeddings, who the model is, answers that begin or end with given text, from a running server.  usage: embeddings.py PORT

Prints a line for each thing that is not as it should be; exit code 1 then."""
import base64
import json
import math
import struct

from client import ask, check, finish, post

TEXTS = ["It was the best of times", "it was the worst of times", "The king of France is bald. " * 20]


def vectors(answer):
    data = answer["data"]
    check(answer["object"] == "list" and [x["index"] for x in data] == list(range(len(data))), f"list: {str(answer)[:200]}")
    check(all(x["object"] == "embedding" for x in data), "objects")
    return [x["embedding"] for x in data]


def embeddings():
    answer = post("/v1/embeddings", {"model": "m", "input": TEXTS})
    together = vectors(answer)
    check(len({len(v) for v in together}) == 1 and len(together) == 3, "all of one size")
    check(all(abs(math.fsum(x * x for x in v) - 1) < 1e-5 for v in together), "at length 1")
    ids = [post("/tokenize", {"content": t, "add_special": True})["tokens"] for t in TEXTS]
    usage = answer["usage"]
    check(usage == {"prompt_tokens": sum(map(len, ids)), "total_tokens": sum(map(len, ids))}, f"usage: {usage}")
    for i, text in enumerate(TEXTS):
        for path, one in (("/v1/embeddings", text), ("/embeddings", [text]), ("/beta/embeddings", ids[i])):
            check(vectors(post(path, {"model": "m", "input": one})) == [together[i]], f"{path}: alone and together differ")
    check(vectors(post("/v1/embeddings", {"input": ids})) == together, "lists of ids")
    packed = vectors(post("/v1/embeddings", {"input": TEXTS, "encoding_format": "base64", "dimensions": len(together[0])}))
    for text, v in zip(packed, together):
        raw = base64.b64decode(text, validate=True)
        check(len(raw) == 4 * len(v), "base64: four bytes a number")
        check([struct.unpack("<f", struct.pack("<f", x))[0] for x in v] == list(struct.unpack(f"<{len(v)}f", raw)), "base64")
    near, far = (math.fsum(x * y for x, y in zip(together[0], v)) for v in together[1:])
    check(-1 <= far < near <= 1, f"what is alike is near: {near}, {far}")
    for body, status, param in [
        ({}, 400, "input"), ({"input": ""}, 400, "input"), ({"input": []}, 400, "input"), ({"input": [["a"]]}, 400, "input"),
        ({"input": ["a", 5]}, 400, "input"), ({"input": ["a"] * 2049}, 400, "input"), ({"input": "word " * 5000}, 400, None),
        ({"input": "a", "encoding_format": "int8"}, 400, "encoding_format"), ({"input": "a", "dimensions": 3}, 400, "dimensions"),
        ({"input": "a", "dimensions": 0}, 422, "dimensions"), ({"input": [10 ** 8]}, 400, None),
    ]:
        if body == {"input": ""} and len(post("/tokenize", {"content": "", "add_special": True})["tokens"]):
            continue  # a model with a first token of its own
        got = post("/v1/embeddings", body, status)
        check(got.get("error", {}).get("param") == param, f"{str(body)[:60]}: {got}")


def of_ollama():
    together = vectors(post("/v1/embeddings", {"input": TEXTS}))
    got = post("/api/embed", {"model": "m", "input": TEXTS, "truncate": True, "keep_alive": "5m"})
    check(got["embeddings"] == together and set(got) == {"model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"},
          f"embed: {str(got)[:200]}")
    check(got["total_duration"] > 0 and got["prompt_eval_count"] == post("/v1/embeddings", {"input": TEXTS})["usage"]["prompt_tokens"], "counts")
    check(post("/api/embed", {"input": TEXTS[0]})["embeddings"] == together[:1], "embed: one text")
    check(post("/api/embeddings", {"prompt": TEXTS[1]}) == {"embedding": together[1]}, "embeddings of Ollama's")
    check(post("/api/embed", {"model": "m"}) == {"embeddings": []} and post("/api/embeddings", {"prompt": ""}) == {"embedding": []}, "nothing")
    for path, body, status in (("embed", {"input": [[]]}, 400), ("embed", {"input": 5}, 400), ("embed", {"input": "a", "dimensions": 3}, 400),
                               ("embed", {"input": ["a"] * 2049}, 400), ("embeddings", {"prompt": TEXTS}, 400), ("embed", "{", 400),
                               ("embed", {"input": "word " * 5000}, 400)):
        got = post(f"/api/{path}", body, status)
        check(set(got) == {"error"} and isinstance(got["error"], str), f"{path}: {got}")


def models():
    listed = json.loads(ask("GET", "/v1/models")[2])
    model = listed["data"][0]
    check(listed["first_id"] == listed["last_id"] == model["id"] and listed["has_more"] is False, f"models: {listed}")
    for prefix in ("", "/v1", "/beta", "/anthropic", "/anthropic/v1"):
        status, _, raw = ask("GET", f"{prefix}/models/{model['id']}")
        check(status == 200 and json.loads(raw) == model, f"{prefix}/models/…: {status} {raw}")
    status, _, raw = ask("GET", "/v1/models/another%20one")
    error = json.loads(raw)["error"]
    check(status == 404 and error["code"] == "model_not_found" and "'another one'" in error["message"], f"{status} {raw}")
    check(error["type"] == "invalid_request_error" and error["param"] == "model", f"{error}")
    check(ask("GET", "/v1/models/")[0] == 404 and ask("POST", "/v1/models/x", {})[0] == 405, "no name; no such method")


def hole():
    """Filling in the middle: this model may have no marks for it; then it says so."""
    body = {"model": "m", "prompt": "def add(a, b):\n    return ", "suffix": "\n\nprint(add(1, 2))\n", "temperature": 0, "max_tokens": 5}
    marks = [post("/tokenize", {"content": m})["tokens"] for m in ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")]
    if any(len(m) != 1 for m in marks):
        got = post("/beta/completions", body, 400)
        check(got["error"]["param"] == "suffix" and "no marks" in got["error"]["message"], f"a model without marks: {got}")
        return
    got = post("/beta/completions", body)
    parts = [post("/tokenize", {"content": t, "parse_special": False})["tokens"] for t in (body["prompt"], body["suffix"])]
    first = post("/tokenize", {"content": "", "add_special": True})["tokens"]
    ids = first + marks[0] + parts[0] + marks[1] + parts[1] + marks[2]
    check(got["usage"]["prompt_tokens"] == len(ids), f"a prompt of {len(ids)}: {got}")
    same = post("/v1/completions", {**body, "prompt": ids, "suffix": None})["choices"][0]["text"]
    check(got["choices"][0]["text"] == same, f"hole: {got}, not {same}")
    ollama = {"prompt": body["prompt"], "suffix": body["suffix"], "stream": False, "options": {"temperature": 0, "num_predict": 5}}
    check(post("/api/generate", ollama)["response"] == same, "hole, in Ollama's words")
    text = "x = '<|fim_middle|>'"  # a source that speaks of marks
    got = post("/v1/completions", {**body, "prompt": text})["usage"]["prompt_tokens"]
    plain = post("/tokenize", {"content": text, "parse_special": False})["tokens"]
    check(got == len(ids) - len(parts[0]) + len(plain), f"a mark in the text: {got}")
    check(len(post("/v1/completions", {**body, "n": 2})["choices"]) == 2, "hole, twice")
    for wrong, param in (({"prompt": [1]}, "prompt"), ({"echo": True}, "echo"), ({"suffix": 5}, "suffix")):
        check(post("/v1/completions", {**body, **wrong}, 400)["error"]["param"] == param, f"hole: {wrong}")


def infill():
    """llama-server's way to fill in the middle; the prompt is read off its number of tokens, and off completions with the same ids."""
    ids = lambda text, **more: post("/tokenize", {"content": text, "parse_special": False, **more})["tokens"]
    marks = [post("/tokenize", {"content": m})["tokens"] for m in ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|file_sep|>")]
    body = {"input_prefix": "def add(a, b):\n    return ", "input_suffix": "\n\nprint(add(1, 2))\n", "n_predict": 5, "temperature": 0, "ignore_eos": True}
    if any(len(m) != 1 for m in marks):
        got = post("/infill", body, 501)["error"]
        check(got["code"] == "not_supported_error" and "no marks" in got["message"], f"infill without marks: {got}")
        return
    begin, hole_, end, file = marks
    first = ids("", add_special=True)
    around = begin + ids(body["input_prefix"]) + hole_ + ids(body["input_suffix"]) + end
    extra = [{"filename": "a.py", "text": "x = 1\n"}, {"text": "<|fim_middle|>"}]
    files = file + ids("a.py") + ids("\n") + ids("x = 1\n") + file + ids("\n") + ids("<|fim_middle|>") + file + ids("filename\n")
    for more, prompt in (({}, first + around), ({"prompt": "a"}, first + around + ids("a")), ({"input_extra": []}, first + around),
                         ({"input_extra": extra, "prompt": None}, first + files + around)):
        got = post("/infill", {**body, **more})
        want = post("/v1/completions", {"prompt": prompt, "max_tokens": 5, "temperature": 0, "ignore_eos": True})["choices"][0]["text"]
        check(got["content"] == want and got["tokens_evaluated"] == len(prompt), f"infill {more}: {got}, not {want!r} behind {len(prompt)}")
        check(got["stop"] is True and got["stop_type"] == "limit" and got["tokens_predicted"] == 5 and got["timings"]["predicted_n"] == 5, f"{got}")
    whole = post("/infill", {**body, "n_predict": 12})["content"]
    word = whole[3:5]
    got = post("/infill", {**body, "n_predict": 12, "stop": [word]})
    check(got["content"] == whole[:whole.index(word)] and got["stop_type"] == "word" and got["stopping_word"] == word, f"infill, stop: {got}")
    raw = ask("POST", "/infill", {**body, "n_predict": 12, "stream": True})[2].decode()
    said = [json.loads(line.removeprefix("data: ")) for line in raw.strip().split("\n\n")]
    check("".join(x["content"] for x in said) == whole and [x["stop"] for x in said] == [False] * (len(said) - 1) + [True], f"streamed: {raw}")
    check(len(said) > 3 and said[-1]["stop_type"] == "limit" and said[-1]["tokens_predicted"] == 12, f"streamed: {said[-1]}")
    check(post("/infill", {**body, "grammar": "root ::= \"zz\""})["content"] == "zz", "infill, bound")
    for wrong, param in (({"input_prefix": 5}, "input_prefix"), ({"input_suffix": []}, "input_suffix"), ({"prompt": [1]}, "prompt"),
                         ({"input_extra": {}}, "input_extra"), ({"input_extra": [1]}, "input_extra"),
                         ({"input_extra": [{"text": 1}]}, "input_extra.text"), ({"n_predict": "1"}, "n_predict")):
        check(post("/infill", {**body, **wrong}, 400)["error"]["param"] == param, f"infill: {wrong}")


def beginning():
    """An answer whose beginning is given goes on from there."""
    said = [{"role": "user", "content": "It was the best of"}]
    body = {"model": "m", "temperature": 0, "max_tokens": 12}
    whole = post("/v1/chat/completions", {**body, "messages": said})
    text, n = whole["choices"][0]["message"]["content"], whole["usage"]["prompt_tokens"]
    at = text.index(" ", 4) if " " in text[4:] else 4
    given = {**body, "messages": said + [{"role": "assistant", "content": text[:at], "prefix": True}]}
    got = post("/beta/chat/completions", given)
    more = len(post("/tokenize", {"content": text[:at], "parse_special": False})["tokens"])
    check(got["usage"]["prompt_tokens"] == n + more, f"prefix: the prompt, and the beginning: {got['usage']}, not {n} + {more}")
    goes_on = got["choices"][0]["message"]["content"]
    check((text[:at] + goes_on).startswith(text), f"prefix: {text!r} begun with {text[:at]!r}: {goes_on!r}")
    stop = post("/beta/chat/completions", {**given, "stop": [goes_on[2:5]]})["choices"][0]
    check(stop["message"]["content"] == goes_on[:goes_on.index(goes_on[2:5])], f"prefix and stop: {stop}")
    for wrong in (said + [{"role": "user", "content": "a", "prefix": True}], [{"role": "assistant", "content": "a", "prefix": True}],
                  [{"role": "assistant", "content": "a", "prefix": True}] + said,
                  said + [{"role": "assistant", "content": None, "prefix": True}]):
        check("prefix" in post("/beta/chat/completions", {**body, "messages": wrong}, 400)["error"]["message"], f"{wrong}")


embeddings()
of_ollama()
models()
beginning()
hole()
infill()
finish()
