"""The grammar of a Messages stream.

  message_start (content_block_start content_block_delta* content_block_stop)* message_delta message_stop
  … error

Blocks are numbered without gaps, a delta's kind is its block's, usage ends in message_delta, pings may stand anywhere."""
import json

KINDS = {"text": {"text_delta", "citations_delta"}, "thinking": {"thinking_delta", "signature_delta"}, "tool_use": {"input_json_delta"}}
STOPS = {"end_turn", "max_tokens", "stop_sequence", "tool_use"}


def _message(m, say):
    if m["content"] != [] or m["stop_reason"] is not None or m["role"] != "assistant" or m["type"] != "message":
        say(f"a message that has begun already: {m}")
    if not {"input_tokens", "output_tokens"} <= set(m["usage"]):
        say(f"usage: {m['usage']}")


def check(events):
    faults, at, kind, text, state, seen = [], -1, None, "", "new", []
    say = faults.append
    for n, (name, data) in enumerate(events):
        e = json.loads(data)
        t = e["type"]
        if name is not None and name != t:
            say(f"event {name} has type {t}")
        if t == "ping":
            continue
        if t == "error":
            if n != len(events) - 1 or set(e["error"]) != {"type", "message"}:
                say(f"an error that is not the end: {e}")
            return faults
        if t == "message_start":
            if state != "new":
                say("message_start twice")
            _message(e["message"], say)
            state = "open"
        elif t == "content_block_start":
            if state != "open" or kind or e["index"] != at + 1:
                say(f"block {e['index']} begins behind {at}")
            at, kind, text = e["index"], e["content_block"]["type"], ""
            seen.append(kind)
            if kind == "tool_use" and not (e["content_block"]["id"] and e["content_block"]["name"]):
                say(f"a call without id or name: {e}")
        elif t == "content_block_delta":
            if not kind or e["index"] != at or e["delta"]["type"] not in KINDS[kind]:
                say(f"a delta outside its block: {e}")
            text += e["delta"].get("partial_json", "")
        elif t == "content_block_stop":
            if not kind or e["index"] != at:
                say(f"block {e['index']} ends, {at} is open")
            if kind == "tool_use":
                json.loads(text or "{}")
            kind = None
        elif t == "message_delta":
            if state != "open" or kind or e["delta"]["stop_reason"] not in STOPS or e["usage"]["output_tokens"] < 0:
                say(f"message_delta: {e}")
            if e["delta"]["stop_reason"] == "tool_use" and "tool_use" not in seen:
                say("stop_reason tool_use without a call")
            state = "told"
        elif t == "message_stop":
            if state != "told" or n != len(events) - 1:
                say("message_stop before message_delta, or not at the end")
            state = "over"
        else:
            say(f"type {t}")
    if state != "over":
        say(f"the stream ends in state {state}")
    return faults
