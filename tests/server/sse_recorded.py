"""The grammar checkers against streams of the real services, and against those with one fault put in: a checker that
accepts everything, or only us, proves nothing.  usage: sse_recorded.py FOLDER   (the recordings, one data line each)"""
import json
import os
import sys

import sse_anthropic
import sse_openai


def load(path):
    name = os.path.join(sys.argv[1], path + ".chunks.txt")
    return [json.loads(x) for x in open(name, encoding="utf-8").read().splitlines() if x and x != "[DONE]"]


def openai(chunks):
    return sse_openai.check([(None, json.dumps(c)) for c in chunks] + [(None, "[DONE]")])


def anthropic(chunks):
    return sse_anthropic.check([(c["type"], json.dumps(c)) for c in chunks])


def mutations(chunks):
    """Streams with one fault each, that no client would survive or count right."""
    yield "no last chunk", chunks[:-1]
    yield "the last chunk twice", chunks + chunks[-1:]
    yield "the first chunk in the middle", chunks[1:5] + chunks[:1] + chunks[5:]


bad = []
for path, check in [("deepseek/deepseek-text", openai), ("deepseek/deepseek-tool-call", openai),
                    ("anthropic/anthropic-text", anthropic), ("anthropic/anthropic-tool-no-args", anthropic)]:
    chunks = load(path)
    if check is openai:  # the recorder dropped nothing but the blank last line
        more = [("usage early", [{**c, "usage": chunks[-1]["usage"]} for c in chunks[:1]] + chunks[1:])]
    else:
        more = [("a gap", [{**c, "index": 1} if "index" in c else c for c in chunks])]
    bad += [f"{path}: {f}" for f in check(chunks)]
    bad += [f"{path}: {what} is not noticed" for what, wrong in [*mutations(chunks), *more] if not check(wrong)]
print("\n".join(bad))
sys.exit(bool(bad))
