"""Answers that are bound to JSON, a schema or a grammar, in every dialect of a running server.  usage: bound.py PORT

Prints a line for each thing that is not as it should be; exit code 1 then."""
import json
import re

import client as t

SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "n": {"type": "integer", "minimum": 3, "maximum": 40},
          "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2}}, "required": ["name", "n"], "additionalProperties": False}
CHAT = {"messages": [{"role": "user", "content": "It was the best of times"}], "max_tokens": 300, "temperature": 1}
WORDS = 'root ::= ("yes" | "no") ", " [a-z]{3,8}'
FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}


def fits(text, where):
    try:
        v = json.loads(text)
    except ValueError:
        return t.check(False, f"{where}: no JSON: {text}")
    ok = isinstance(v, dict) and len(v["name"]) <= 12 and 3 <= v["n"] <= 40 and set(v) <= {"name", "n", "tags"}
    t.check(ok and len(v.get("tags", [])) <= 2 and set(v.get("tags", [])) <= {"a", "b"}, f"{where}: not valid: {text}")


def openai():
    for seed in range(4):
        c = t.post("/v1/chat/completions", {**CHAT, "seed": seed, "response_format": FORMAT})["choices"][0]
        t.check(c["finish_reason"] == "stop", f"{c}")
        fits(c["message"]["content"], "chat")
    _, data = t.events("/v1/chat/completions", {**CHAT, "seed": 9, "response_format": FORMAT})
    fits("".join(json.loads(x)["choices"][0]["delta"].get("content") or "" for x in data[:-1]), "chat, streamed")
    body = {**CHAT, "max_tokens": 1000, "seed": 3, "response_format": {"type": "json_object"}, "logit_bias": {}}
    c = t.post("/v1/chat/completions", body)["choices"][0]
    t.check(c["message"]["content"].startswith("{"), f"json_object: {c}")
    if c["finish_reason"] == "stop":
        t.check(isinstance(json.loads(c["message"]["content"]), dict), f"json_object: {c}")
    for seed in range(3):
        c = t.post("/v1/chat/completions", {**CHAT, "seed": seed, "grammar": WORDS})["choices"][0]
        t.check(re.fullmatch("(yes|no), [a-z]{3,8}", c["message"]["content"]) and c["finish_reason"] == "stop", f"grammar: {c}")
        c = t.post("/v1/completions", {"prompt": "x", "max_tokens": 50, "seed": seed, "grammar": WORDS})["choices"][0]
        t.check(re.fullmatch("(yes|no), [a-z]{3,8}", c["text"]), f"grammar: {c}")
    short = t.post("/v1/chat/completions", {**CHAT, "max_tokens": 2, "response_format": FORMAT})["choices"][0]
    t.check(short["finish_reason"] == "length", f"cut: {short}")
    greedy = {**CHAT, "temperature": 0, "max_tokens": 40, "grammar": "root ::= [^q]{30,}"}
    both = [t.post("/v1/chat/completions", greedy)["choices"][0]["message"]["content"] for _ in range(2)]
    t.check(both[0] == both[1] and len(both[0]) >= 30 and "q" not in both[0], f"the same again: {both}")
    for wrong, param, says in [
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"not": {}}}}}, "response_format", "/not: "),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format", "missing"),
        ({"response_format": {"type": "xml"}}, "response_format", "none of"),
        ({"grammar": "root ::= x"}, "grammar", "line 1, rule x"), ({"grammar": 5}, "grammar", "not a string"),
        ({"grammar": "root ::= root"}, "grammar", "no text"), ({"grammar": WORDS, "response_format": FORMAT}, "grammar", "only one"),
    ]:
        got = t.post("/v1/chat/completions", {**CHAT, **wrong}, 400)["error"]
        t.check(got["param"] == param and says in got["message"], f"{wrong}: {got}")


def others():
    text = {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}
    got = t.post("/v1/responses", {"input": "It was", "max_output_tokens": 300, "seed": 1, "text": text})
    fits(got["output"][-1]["content"][0]["text"], "responses")
    t.check(got["status"] == "completed" and got["text"]["format"]["type"] == "json_schema", f"responses: {got}")
    names, data = t.events("/v1/responses", {"input": "It was", "max_output_tokens": 300, "seed": 2, "text": text})
    fits(json.loads(data[-1])["response"]["output"][-1]["content"][0]["text"], "responses, streamed")
    options = {"num_predict": 300, "seed": 5}
    got = t.post("/api/chat", {"messages": CHAT["messages"], "stream": False, "format": SCHEMA, "options": options})
    fits(got["message"]["content"], "api/chat")
    for raw in (False, True):
        got = t.post("/api/generate", {"prompt": "It was", "stream": False, "format": SCHEMA, "options": options, "raw": raw})
        fits(got["response"], "api/generate")
    got = t.post("/api/generate", {"prompt": "It was", "stream": False, "format": "json", "options": options})
    t.check(got["response"].startswith("{"), f"json: {got}")
    t.check("/not" in t.post("/api/generate", {"prompt": "x", "format": {"not": {}}}, 400)["error"], "a schema that is refused")
    t.post("/api/generate", {"prompt": "x", "format": "xml"}, 400)


openai()
others()
t.finish()
