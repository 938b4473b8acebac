"""The grammar of a Responses stream.

  created in_progress item* (completed | incomplete | failed)
  item: output_item.added (content_part.added TEXT.delta* TEXT.done content_part.done | arguments.delta* arguments.done) output_item.done

sequence_number counts from 0, output_index from 0 without gaps; deltas add up to what .done and the last event hold."""
import json

TERMINAL = {"completed", "incomplete", "failed"}
FIELDS = {"output_text": "text", "reasoning_text": "text", "function_call_arguments": "arguments"}


def check(events):
    faults, items, item, part, text, done = [], [], None, False, "", None
    say = faults.append
    for n, (name, data) in enumerate(events):
        e = json.loads(data)
        if name is not None and name != e["type"]:
            say(f"event {name} has type {e['type']}")
        if e["sequence_number"] != n:
            say(f"number {e['sequence_number']} is event {n}")
        if "error" in e:
            say("a member error at the top stops clients")
        t = e["type"].removeprefix("response.")
        if (n == 0) != (t == "created") or (n == 1) != (t == "in_progress"):
            say(f"event {n} is {t}")
        if "output_index" in e and e["output_index"] != len(items):
            say(f"output_index {e['output_index']} in item {len(items)}")
        if "item_id" in e and (not item or e["item_id"] != item["id"]):
            say(f"an event of another item: {e}")
        if t in ("created", "in_progress"):
            if e["response"]["status"] != "in_progress" or e["response"]["output"] or "usage" in e["response"]:
                say(f"{t}: {e}")
        elif t == "output_item.added":
            if item:
                say("an item inside an item")
            item, text, done = e["item"], "", None
            if item["status"] != "in_progress" or item.get("content") or item.get("arguments"):
                say(f"an item that is not new: {item}")
        elif t == "content_part.added":
            part = True
        elif t == "content_part.done":
            if not part or e["part"]["text"] != done:
                say(f"a part with another text: {e}")
            part = False
        elif t == "output_item.done":
            got = e["item"]
            held = got.get("arguments", "".join(p["text"] for p in got.get("content", [])))
            if not item or got["id"] != item["id"] or part or held != (done or ""):
                say(f"an item with another text: {e}")
            items.append(got)
            item = None
        elif t in TERMINAL:
            r = e["response"]
            if n != len(events) - 1 or item or r["status"] != t or r["output"] != items:
                say(f"the end: {e}")
            if ("usage" in r) != (t != "failed") or bool(r["error"]) != (t == "failed"):
                say(f"usage and error: {e}")
        elif t.rpartition(".")[0] in FIELDS:
            what, _, step = t.rpartition(".")
            if step == "delta":
                if done is not None:
                    say("a delta after done")
                text += e["delta"]
            elif e[FIELDS[what]] != text:
                say(f"deltas add up to {text!r}: {e}")
            else:
                done = text
        else:
            say(f"type {e['type']}")
    if not events or json.loads(events[-1][1])["type"].removeprefix("response.") not in TERMINAL:
        say("no last event")
    return faults
