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


def cached(path, body, hits):
    """The ids of the prompt, and how many of them came from the cache."""
    u = post(path, body)["usage"]
    details = u.get("prompt_tokens_details") or u.get("input_tokens_details") or u
    n = details.get("cached_tokens", details.get("cache_read_input_tokens", 0))
    all_of_it = u.get("prompt_tokens", u["input_tokens"] + n if "cache_read_input_tokens" in u else u.get("input_tokens"))
    whole = (all_of_it - 1) // 64 * 64
    check(hits(n, whole), f"{path}: {n} of {all_of_it} tokens from the cache")
    return all_of_it


def replayed():
    """A call that comes back with other blanks and its keys in another order makes the prompt that it made before."""
    words = [" ".join(f"{c}{i}" for i in range(20)) for c in "ab"]
    fields = {"type": "object", "properties": {"one": {"enum": words[:1]}, "two": {"enum": words[1:]}}, "required": ["one", "two"],
              "additionalProperties": False}
    named = {"type": "function", "function": {"name": "note"}}
    tools = [{"type": "function", "function": {"name": "note", "parameters": fields, "strict": True}}]
    body = {**CHAT, "max_tokens": 800, "tools": tools}
    for stream in (False, True):
        ask = [{"role": "user", "content": f"{stream}: note it"}]
        body["messages"] = ask
        if stream:
            _, data = events("/v1/chat/completions", {**body, "tool_choice": named, "seed": 9})
            deltas = [c for x in data[:-1] for c in json.loads(x)["choices"][0]["delta"].get("tool_calls", [])]
            id, text = deltas[0]["id"], "".join(d["function"]["arguments"] for d in deltas)
        else:
            c = post("/v1/chat/completions", {**body, "tool_choice": named, "seed": 8})["choices"][0]["message"]["tool_calls"][0]
            id, text = c["id"], c["function"]["arguments"]
        args = json.loads(text)
        back = dict(reversed(args.items()))
        check(len(args) == 2 and list(args) != list(back), f"replayed: {text}")
        other = {**back, "two": "c"}

        def messages(said, id=id):
            call = {"id": id, "type": "function", "function": {"name": "note", "arguments": said}}
            return {**body, "max_tokens": 1, "messages": ask + [{"role": "assistant", "content": "", "tool_calls": [call]},
                                                               {"role": "tool", "tool_call_id": id, "content": "noted"}]}

        every, some = (lambda n, whole: n == whole), (lambda n, whole: n < whole)
        path = "/v1/chat/completions"
        n = cached(path, messages(text), lambda n, whole: True)
        for said in (json.dumps(back, indent=3), json.dumps(back, separators=(",", ":"))):
            check(cached(path, messages(said), every) == n, f"replayed: {said}: not the prompt of {text}")
        cached(path, messages(json.dumps(other)), some)
        cached(path, messages(json.dumps(back), f"other-{stream}"), some)
        flat = [{"type": "function", "name": "note", "parameters": fields, "strict": True}]
        items = ask + [{"type": "function_call", "call_id": id, "name": "note", "arguments": json.dumps(back, indent=1)},
                       {"type": "function_call_output", "call_id": id, "output": "noted"}]
        check(cached("/v1/responses", {"input": items, "tools": flat, "max_output_tokens": 1, "reasoning": {"effort": "none"}}, every) == n,
              "replayed: responses: another prompt")
        blocks = ask + [{"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_" + id, "name": "note", "input": back}]},
                        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_" + id, "content": "noted"}]}]
        check(cached("/v1/messages", {"messages": blocks, "max_tokens": 1, "tools": [{"name": "note", "input_schema": fields, "strict": True}]}, every) == n,
              "replayed: messages: another prompt")


chat()
others()
replayed()
finish()
