"""Calls that a client asks for, in every dialect of a server whose chat format has words for them.  usage: forced.py PORT

Prints a line for each thing that is not as it should be; exit code 1 then."""
import json

from client import check, events, finish, post

SCHEMA = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}, "n": {"type": "integer", "minimum": 2, "maximum": 30}},
          "required": ["city", "n"], "additionalProperties": False}
FUNCTIONS = [{"name": "weather", "description": "d", "parameters": SCHEMA, "strict": True}, {"name": "stop", "parameters": {"type": "object", "properties": {}}}]
TOOLS = [{"type": "function", "function": f} for f in FUNCTIONS]
ASK = [{"role": "user", "content": "Weather?"}]
CHAT = {"messages": ASK, "max_tokens": 400, "tools": TOOLS, "thinking": {"type": "disabled"}}


def fits(name, args, where, only="weather"):
    check(name in ("weather", "stop") and (not only or name == only), f"{where}: {name}")
    args = json.loads(args) if isinstance(args, str) else args
    ok = args == {} if name == "stop" else set(args) == {"city", "n"} and args["city"] in ("Paris", "Rome") and 2 <= args["n"] <= 30
    check(ok, f"{where}: {name} {args}")


def chat():
    named = {"type": "function", "function": {"name": "weather"}}
    for seed in range(4):
        for choice, only in (("required", None), (named, "weather")):
            c = post("/v1/chat/completions", {**CHAT, "seed": seed, "tool_choice": choice})["choices"][0]
            if c["finish_reason"] == "length":  # one call behind the other
                continue
            check(c["finish_reason"] == "tool_calls" and c["message"]["content"] == "", f"{choice}: {c}")
            for call in c["message"].get("tool_calls", []):
                fits(call["function"]["name"], call["function"]["arguments"], f"chat, {choice}", only)
            check(only is None or len(c["message"].get("tool_calls", [])) == 1, f"{choice}: {c}")
    _, data = events("/v1/chat/completions", {**CHAT, "seed": 7, "tool_choice": named})
    deltas = [c for x in data[:-1] for c in json.loads(x)["choices"][0]["delta"].get("tool_calls", [])]
    fits(deltas[0]["function"]["name"], "".join(d["function"]["arguments"] for d in deltas), "chat, streamed")
    check(len(deltas) > 4 and sum(bool(d.get("id")) for d in deltas) == 1, f"arguments come in pieces: {deltas}")
    auto = post("/v1/chat/completions", {**CHAT, "seed": 3, "max_tokens": 40})["choices"][0]
    check(auto["finish_reason"] in ("stop", "length", "tool_calls"), f"auto: {auto}")
    for wrong, param, says in [
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice", "no tool 'other'"),
        ({"tool_choice": "required", "tools": []}, "tool_choice", "no tools"), ({"tool_choice": "perhaps"}, "tool_choice", "none of"),
        ({"tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": {"not": {}}}}]}, "tools", "/not"),
    ]:
        got = post("/v1/chat/completions", {**CHAT, **wrong}, 400)["error"]
        check(got["param"] == param and says in got["message"], f"{wrong}: {got}")


def others():
    flat = [{"type": "function", **f} for f in FUNCTIONS]
    body = {"input": "Weather?", "tools": flat, "tool_choice": {"type": "function", "name": "weather"}, "max_output_tokens": 400,
            "seed": 1, "reasoning": {"effort": "none"}}
    calls = [x for x in post("/v1/responses", body)["output"] if x["type"] == "function_call"]
    check(len(calls) == 1, f"responses: {calls}")
    fits(calls[0]["name"], calls[0]["arguments"], "responses")
    names, data = events("/v1/responses", {**body, "seed": 4})
    said = [json.loads(x) for x in data]
    pieces = [x["delta"] for x in said if x["type"] == "response.function_call_arguments.delta"]
    done = [x for x in said if x["type"] == "response.function_call_arguments.done"]
    check(len(pieces) > 3 and len(done) == 1 and "".join(pieces) == done[0]["arguments"], f"responses, streamed: {pieces} {done}")
    fits("weather", done[0]["arguments"], "responses, streamed")
    tools = [{"name": f["name"], "input_schema": f["parameters"], "strict": f.get("strict", False)} for f in FUNCTIONS]
    body = {"messages": ASK, "max_tokens": 400, "tools": tools, "seed": 2}
    for choice in ({"type": "tool", "name": "weather"}, {"type": "any"}):
        got = post("/v1/messages", {**body, "tool_choice": choice})
        if got["stop_reason"] == "max_tokens":
            continue
        check(got["stop_reason"] == "tool_use", f"messages: {got}")
        for block in got["content"]:
            if block["type"] == "tool_use":
                fits(block["name"], block["input"], "messages", choice.get("name"))
    _, data = events("/v1/messages", {**body, "seed": 6, "tool_choice": {"type": "tool", "name": "weather"}})
    pieces = [x["delta"]["partial_json"] for x in map(json.loads, data) if x.get("delta", {}).get("type") == "input_json_delta"]
    check(len(pieces) > 3, f"messages, streamed: {pieces}")
    fits("weather", "".join(pieces), "messages, streamed")
    check("other" in post("/v1/messages", {**body, "tool_choice": {"type": "tool", "name": "other"}}, 400)["error"]["message"], "messages: other")


chat()
others()
finish()
