"""The same talk with tools in every dialect of a running server, whose model answers with a call.  usage: tools.py PORT

The model repeats the calls of the talk for another city.  Every dialect has to make the same prompt of the talk, and to
report the same call.  Prints a line for each thing that is not as it should be; exit code 1 then."""
import json

from client import ask, check, events, finish, post

ARGUMENTS = '{"city": "Berlin"}'
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


def talk(user, call, result, said):
    """The messages of a dialect, whose functions give lists of them."""
    out = []
    for i, city in enumerate(("Paris", "Rome", "Oslo")):
        out += user(f"Weather in {city}?") + call(f"c{i}", city) + result(f"c{i}", "sunny") + said("It is sunny.")
    return out + user("Weather in Berlin?")


def plain(role):
    return lambda text: [{"role": role, "content": text}]


def streamed(path, body):
    """The objects of a stream, which obeys its dialect's grammar."""
    return [json.loads(data) for data in events(path, body)[1] if data != "[DONE]"]


def openai_chat():
    messages = talk(plain("user"), lambda i, city: [
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": i, "type": "function", "function": {"name": "get_weather", "arguments": json.dumps({"city": city})}}]}],
        lambda i, text: [{"role": "tool", "tool_call_id": i, "content": text}], plain("assistant"))
    body = {"messages": messages, "temperature": 0, "max_tokens": 60}
    whole = post("/v1/chat/completions", body)
    call = whole["choices"][0]["message"]["tool_calls"][0]
    check(call["function"] == {"name": "get_weather", "arguments": ARGUMENTS}, f"chat: {whole}")
    check(whole["choices"][0]["finish_reason"] == "tool_calls", f"chat: {whole}")
    deltas = [c["choices"][0]["delta"].get("tool_calls") for c in streamed("/v1/chat/completions", body)]
    check("".join(d[0]["function"]["arguments"] for d in deltas if d) == ARGUMENTS, f"chat: {deltas}")
    return whole["usage"]["prompt_tokens"]


def anthropic():
    messages = talk(plain("user"), lambda i, city: [
        {"role": "assistant", "content": [{"type": "tool_use", "id": i, "name": "get_weather", "input": {"city": city}}]}],
        lambda i, text: [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": i, "content": text}]}],
        plain("assistant"))
    body = {"messages": messages, "temperature": 0, "max_tokens": 60}
    whole = post("/v1/messages", body)
    check([b["type"] for b in whole["content"]] == ["tool_use"] and whole["stop_reason"] == "tool_use"
          and whole["content"][0]["input"] == json.loads(ARGUMENTS), f"messages: {whole}")
    said = streamed("/v1/messages", body)
    check("".join(e["delta"].get("partial_json", "") for e in said if e["type"] == "content_block_delta") == ARGUMENTS,
          f"messages: {said}")
    return whole["usage"]["input_tokens"] + whole["usage"]["cache_read_input_tokens"]


def responses():
    items = talk(plain("user"), lambda i, city: [
        {"type": "function_call", "call_id": i, "name": "get_weather", "arguments": json.dumps({"city": city})}],
        lambda i, text: [{"type": "function_call_output", "call_id": i, "output": [{"type": "input_text", "text": text}]}],
        lambda text: [{"role": "assistant", "content": [{"type": "output_text", "text": text}]}])
    body = {"input": items, "temperature": 0, "max_output_tokens": 60}
    whole = post("/v1/responses", body)
    item = whole["output"][0]
    check(len(whole["output"]) == 1 and whole["status"] == "completed", f"responses: {whole}")
    check((item["type"], item["name"], item["arguments"]) == ("function_call", "get_weather", ARGUMENTS), f"{whole}")
    check(item["call_id"] and item["call_id"] != item["id"], f"responses: {item}")
    said = streamed("/v1/responses", body)
    n = sum(e["type"] == "response.function_call_arguments.delta" for e in said)
    check(n > 1 and [e["type"] for e in said] == ["response." + x for x in (
        "created", "in_progress", "output_item.added", *["function_call_arguments.delta"] * n, "function_call_arguments.done",
        "output_item.done", "completed")], f"responses: {said}")
    added, deltas, (done, item_done) = said[2], said[3:3 + n], said[3 + n:5 + n]
    check(added["item"]["arguments"] == "" and "".join(d["delta"] for d in deltas) == done["arguments"] == ARGUMENTS
          and item_done["item"]["arguments"] == ARGUMENTS and done["name"] == "get_weather", f"responses: {said}")
    check(said[-1]["response"]["output"] == [item_done["item"]], f"responses: {said[-1]}")
    # tools of kinds that only other servers know change nothing
    tool = {"type": "function", "name": "get_weather", "description": "d", "parameters": SCHEMA, "strict": None}
    counts = [post("/v1/responses", {**body, "max_output_tokens": 1, "tools": t, "tool_choice": c})["usage"]["input_tokens"]
              for t, c in (([], "auto"), ([tool], "auto"), ([{"type": "custom", "name": "x"}, tool, {"type": "web_search"}], "auto"),
                           ([tool], "none"))]
    check(counts[0] == counts[3] < counts[1] == counts[2], f"responses: tools in the prompt: {counts}")
    return whole["usage"]["input_tokens"]


def ollama():
    messages = talk(plain("user"), lambda i, city: [
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": city}}}]}],
        lambda i, text: [{"role": "tool", "tool_name": "get_weather", "content": text}], plain("assistant"))
    body = {"messages": messages, "options": {"temperature": 0, "num_predict": 60}}
    lines = [json.loads(x) for x in ask("POST", "/api/chat", body)[2].splitlines()]
    for answer in (lines[0], post("/api/chat", {**body, "stream": False})):
        calls = answer["message"]["tool_calls"]
        check([(c["function"]["name"], c["function"]["arguments"]) for c in calls]
              == [("get_weather", json.loads(ARGUMENTS))], f"ollama: {answer}")
    check([x["done"] for x in lines] == [False, True], f"ollama: {lines}")
    check("tools" in post("/api/show", {})["capabilities"], "ollama: a format with words for tools")
    return lines[-1]["prompt_eval_count"]


prompts = {f.__name__: f() for f in (openai_chat, anthropic, responses, ollama)}
check(len(set(prompts.values())) == 1, f"the dialects make different prompts of one talk: {prompts}")
finish()
