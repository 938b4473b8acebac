"""The grammar of a stream of Chat Completions and of Completions, as DeepSeek's platform has it.

  chat:  first(role) piece* last(finish_reason, usage) [DONE]     piece: reasoning_content | content | tool_calls
  text:  piece* last(finish_reason, usage) [DONE]                 piece: text
  fault: … {"error": …} [DONE]

Several choices may be interleaved; each obeys the grammar.  Usage stands in one chunk, the last."""
import json

FINISH = {"stop", "length", "content_filter", "tool_calls", "insufficient_system_resource", "aborted"}


class Choice:
    def __init__(self):
        self.role, self.finish, self.phase, self.calls = False, None, 0, []


def _tool_calls(c, calls, say):
    for part in calls:
        i, f = part.get("index"), part.get("function", {})
        if i == len(c.calls):
            if not (isinstance(part.get("id"), str) and part["id"] and part.get("type") == "function" and f.get("name")):
                say(f"a call begins without id, type or name: {part}")
            c.calls.append(f.get("arguments", ""))
        elif i == len(c.calls) - 1:
            if set(part) != {"index", "function"} or set(f) != {"arguments"}:
                say(f"a later part of a call has more than index and arguments: {part}")
            c.calls[i] += f.get("arguments", "")
        else:
            say(f"call {i} comes after {len(c.calls) - 1}")


def _chat_delta(c, delta, say):
    if not c.role:
        c.role = True
        if delta.get("role") != "assistant":
            say(f"the first delta names no role: {delta}")
    elif "role" in delta:
        say(f"a role twice: {delta}")
    said = [k for k in ("reasoning_content", "content", "tool_calls") if delta.get(k)]
    if len(said) > 1:
        say(f"a delta says two things: {delta}")
    for k in said:
        phase = ("reasoning_content", "content", "tool_calls").index(k)
        if phase < c.phase:
            say(f"{k} after a later kind of text: {delta}")
        c.phase = max(phase, c.phase)
    if delta.get("tool_calls"):
        _tool_calls(c, delta["tool_calls"], say)


def check(events, chat=True, usage_null=None, thinking=None):
    """Faults of a stream's (name, data) pairs.  usage_null: whether chunks before the last carry usage: null; None: any."""
    faults, choices, ids, usages = [], {}, set(), 0
    say = faults.append
    if not events or events[-1][1] != "[DONE]":
        say("it does not end with [DONE]")
    for n, (name, data) in enumerate(events):
        if name:
            say(f"an event line: {name}")
        if data == "[DONE]":
            if n != len(events) - 1:
                say("[DONE] before the end")
            continue
        chunk = json.loads(data)
        if "error" in chunk:
            if n != len(events) - 2 or set(chunk["error"]) != {"message", "type", "param", "code"}:
                say(f"an error that is not the end, or in another shape: {chunk}")
            return faults
        ids.add((chunk["id"], chunk["object"], chunk["created"], chunk["model"], chunk["system_fingerprint"]))
        if len(chunk["choices"]) != 1:
            say(f"{len(chunk['choices'])} choices in a chunk")
            continue
        choice = chunk["choices"][0]
        c = choices.setdefault(choice["index"], Choice())
        if c.finish:
            say("a chunk after finish_reason")
        if "logprobs" not in choice or "finish_reason" not in choice:
            say(f"logprobs or finish_reason is missing: {choice}")
        if chat:
            _chat_delta(c, choice["delta"], say)
            if thinking is False and "reasoning_content" in choice["delta"]:
                say("reasoning_content without thinking")
        elif not isinstance(choice.get("text"), str):
            say(f"no text: {choice}")
        if choice.get("finish_reason"):
            c.finish = choice["finish_reason"]
            if c.finish not in FINISH:
                say(f"finish_reason {c.finish}")
        usages += bool(chunk.get("usage"))
        if chunk.get("usage") and n != len(events) - 2:
            say("usage before the last chunk")
        if usage_null is not None and n != len(events) - 2 and ("usage" in chunk) != usage_null:
            say(f"usage: null where it should {'' if usage_null else 'not '}be")
    if len(ids) != 1 or next(iter(ids))[1] != ("chat.completion.chunk" if chat else "text_completion"):
        say(f"the chunks' heads differ: {ids}")
    if sorted(choices) != list(range(len(choices))):
        say(f"choices {sorted(choices)}")
    for i, c in choices.items():
        if not c.finish:
            say(f"choice {i} has no end")
        if (c.finish == "tool_calls") != bool(c.calls) and c.finish in ("stop", "tool_calls"):
            say(f"finish_reason {c.finish} with {len(c.calls)} calls")
        if c.finish == "tool_calls":
            [json.loads(a) for a in c.calls]
    if usages != 1:
        say(f"usage {usages} times")
    return faults
