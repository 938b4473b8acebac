"""Several choices and several prompts in one request, and probabilities as evaluation harnesses read them, from a running
server.  usage: choices.py PORT   Prints a line for each thing that is not as it should be; exit code 1 then."""
import json
from operator import itemgetter

from client import ask, check, events, finish, post

TEXTS = ["It was the best of times, it was", "The sea was", "Once upon a time there was a king who had three daughters"]
BODY = {"model": "m", "temperature": 0, "max_tokens": 12}


def tokens(text):
    return post("/tokenize", {"content": text, "add_special": True})["tokens"]


def harness(answer, context_lengths):
    """(sum of the continuation's log probabilities, whether greedy decoding says it) of each choice, as a harness takes them
    out of an answer with echo and one token more than the prompt."""
    out = []
    for choice, n in zip(sorted(answer["choices"], key=itemgetter("index")), context_lengths):
        probs = choice["logprobs"]
        own, top = probs["token_logprobs"][n:-1], probs["top_logprobs"][n:-1]
        out.append((sum(own), all(p == max(t.values()) for p, t in zip(own, top))))
    return out


def evaluation():
    ids = [tokens(t) for t in TEXTS]
    lengths = [3, 2, 5]
    asked = {"model": "m", "prompt": ids, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True}
    answer = post("/v1/completions", asked)
    check([c["index"] for c in answer["choices"]] == [0, 1, 2], f"a choice for each prompt, in order: {answer['choices']}")
    check(answer["usage"]["prompt_tokens"] == sum(map(len, ids)) and answer["usage"]["completion_tokens"] == 3,
          f"usage is that of all: {answer['usage']}")
    for choice, own, text in zip(answer["choices"], ids, TEXTS):
        probs = choice["logprobs"]
        check({len(probs[k]) for k in ("tokens", "token_logprobs", "top_logprobs", "text_offset")} == {len(own) + 1},
              f"four lists, a token more than the prompt: {probs}")
        check(probs["token_logprobs"][0] is None and probs["top_logprobs"][0] is None, "nothing is before the first token")
        check(all(p is not None and p <= 0 for p in probs["token_logprobs"][1:]), f"{probs['token_logprobs']}")
        check(all(t in top for t, top in zip(probs["tokens"][1:], probs["top_logprobs"][1:])), "the token itself is listed")
        check(probs["text_offset"] == sorted(probs["text_offset"]), f"offsets rise: {probs['text_offset']}")
        check("".join(probs["tokens"]) == choice["text"] and text in choice["text"], f"tokens are the text: {choice}")
    got = harness(answer, lengths)
    none = post("/v1/completions", {**asked, "max_tokens": 0})
    whole = [sum(c["logprobs"]["token_logprobs"][n:]) for c, n in zip(none["choices"], lengths)]
    check(none["usage"]["completion_tokens"] == 0 and [s for s, _ in got] == whole, f"max_tokens 0: {got}, {whole}")
    alone = [harness(post("/v1/completions", {**asked, "prompt": i}), [n])[0] for i, n in zip(ids, lengths)]
    check(alone == got, f"alone and together: {alone}, {got}")
    check(harness(post("/v1/completions", {**asked, "prompt": TEXTS}), lengths) == got, "texts instead of ids")
    said = post("/v1/completions", {**BODY, "prompt": ids[0], "logprobs": 0, "max_tokens": 1})["choices"][0]
    go_on = ids[0] + post("/tokenize", {"content": said["text"]})["tokens"]
    check(len(go_on) == len(ids[0]) + 1, f"one token: {said}")
    total, greedy = harness(post("/v1/completions", {**asked, "prompt": [go_on]}), [len(ids[0])])[0]
    check(greedy and abs(total - said["logprobs"]["token_logprobs"][0]) < 1e-3, f"greedy: {total} {said['logprobs']}")
    check(not harness(post("/v1/completions", {**asked, "prompt": [ids[0] + ids[0][:2]]}), [len(ids[0])])[0][1], "not greedy")
    many = post("/v1/completions", {**BODY, "prompt": TEXTS[0], "logprobs": 5})["choices"][0]["logprobs"]
    check(all(5 <= len(t) <= 6 for t in many["top_logprobs"]), f"five, and the one said: {many['top_logprobs']}")


def end_tokens():
    """An answer that ends at once: its end token has a probability, but no text."""
    own = tokens(TEXTS[0])
    for end in range(3):  # the end token's id is one of the first
        got = post("/v1/completions", {**BODY, "prompt": own, "logprobs": 1, "echo": True, "max_tokens": 1,
                                       "logit_bias": {str(end): 100}})["choices"][0]
        check(len(got["logprobs"]["token_logprobs"]) == len(own) + 1, f"a token more than the prompt: {got}")
        if got["finish_reason"] == "stop":
            check(got["text"].endswith(TEXTS[0]), f"an end token has no text: {got['text']}")
            return
    check(False, "no end token among the first ids")


def several(prompt):
    """n choices are what as many requests with the next seeds say."""
    body = {**BODY, "prompt": prompt, "temperature": 1, "seed": 40}
    post("/v1/completions", body)  # from now on what can be cached is, for all that follow
    answer = post("/v1/completions", {**body, "n": 4})
    texts = [c["text"] for c in answer["choices"]]
    alone = [post("/v1/completions", {**body, "seed": 40 + i}) for i in range(4)]
    check(texts == [a["choices"][0]["text"] for a in alone], f"n: {texts}")
    check(len(set(texts)) > 1, f"n: all the same: {texts}")
    usage = answer["usage"]
    check(usage["prompt_tokens"] == alone[0]["usage"]["prompt_tokens"], f"a prompt counts once: {usage}")
    check(usage["completion_tokens"] == sum(a["usage"]["completion_tokens"] for a in alone), f"answers add up: {usage}")
    data = [json.loads(x) for x in events("/v1/completions", {**body, "n": 4})[1][:-1]]
    got = ["".join(c["choices"][0]["text"] for c in data if c["choices"][0]["index"] == i) for i in range(4)]
    check(got == texts, f"streamed: {got}, not {texts}")
    check(data[-1]["usage"]["completion_tokens"] == usage["completion_tokens"], f"streamed: {data[-1]}")
    return texts


def best(texts):
    body = {**BODY, "prompt": TEXTS[0], "temperature": 1, "seed": 40, "logprobs": 0, "n": 4}
    every = [c["logprobs"]["token_logprobs"] for c in post("/v1/completions", body)["choices"]]
    order = sorted(range(4), key=lambda i: -sum(every[i]) / len(every[i]))
    answer = post("/v1/completions", {**body, "n": 2, "best_of": 4, "logprobs": None})
    got = [c["text"] for c in answer["choices"]]
    check(got == [texts[i] for i in order[:2]] and [c["index"] for c in answer["choices"]] == [0, 1], f"best_of: {got} {order}")
    check(answer["choices"][0]["logprobs"] is None, "best_of: probabilities that nobody asked for")
    check(answer["usage"]["completion_tokens"] == sum(map(len, every)), "best_of: what was made counts")
    both = post("/v1/completions", {**body, "prompt": TEXTS[:2], "n": 1, "best_of": 4})["choices"]
    check(len(both) == 2 and both[0]["text"] == texts[order[0]], f"best_of, of two prompts: {both}")


def chat():
    body = {**BODY, "messages": [{"role": "user", "content": TEXTS[0]}], "temperature": 1, "seed": 40, "n": 3}
    answer = post("/v1/chat/completions", body)
    texts = [c["message"]["content"] for c in answer["choices"]]
    check([c["index"] for c in answer["choices"]] == [0, 1, 2] and len(set(texts)) > 1, f"chat: {answer['choices']}")
    for extra in ({}, {"stream_options": {"include_usage": True}}):
        data = [json.loads(x) for x in events("/v1/chat/completions", {**body, **extra})[1][:-1]]
        got = ["".join(c["choices"][0]["delta"].get("content") or "" for c in data if c["choices"][0]["index"] == i)
               for i in range(3)]
        check(got == texts, f"chat, streamed: {got}, not {texts}")


def shared_prefix():
    """The choices of a long prompt find it in the cache."""
    before = json.loads(json.dumps(counters()))
    ids = [7 + i % 50 for i in range(300)]
    post("/v1/completions", {**BODY, "prompt": ids, "n": 4, "temperature": 1, "max_tokens": 2})
    after = counters()
    computed = after["fathom_prompt_tokens_total"] - before["fathom_prompt_tokens_total"]
    check(300 <= computed <= 300 + 3 * 64, f"four choices of 300 tokens computed {computed}: not once")


def counters():
    text = ask("GET", "/metrics")[2].decode()
    return {x.split(" ")[0]: float(x.split(" ")[1]) for x in text.splitlines() if x and not x.startswith("#")}


def refused():
    for body, status, param in [
        ({"prompt": []}, 400, "prompt"), ({"prompt": ["a", 5]}, 400, "prompt"), ({"prompt": [[1], []]}, 400, "prompt"),
        ({"prompt": [1, "a"]}, 400, "prompt"), ({"prompt": [1.5]}, 400, "prompt"), ({"prompt": [-1]}, 400, "prompt"),
        ({"prompt": [10 ** 9]}, 400, None), ({"prompt": ["a"] * 129}, 400, "prompt"), ({"prompt": {}}, 400, "prompt"),
        ({"prompt": ["a"] * 65, "n": 2}, 400, "n"), ({"prompt": "a", "n": 0}, 422, "n"), ({"prompt": "a", "n": 129}, 422, "n"),
        ({"prompt": "a", "n": 2, "best_of": 1}, 400, "best_of"), ({"prompt": "a", "best_of": 2, "stream": True}, 400, "best_of"),
        ({"prompt": "a", "logprobs": 21}, 422, "logprobs"), ({"prompt": "a", "logprobs": True}, 400, "logprobs"),
        ({"prompt": "a", "echo": 1}, 400, "echo"), ({"prompt": ["a", "word " * 5000]}, 400, None),
        ({"prompt": ["a", "word " * 5000], "stream": True}, 400, None),  # nothing has begun: all or none
    ]:
        got = post("/v1/completions", body, status)
        check(got.get("error", {}).get("param") == param, f"{str(body)[:60]}: {got}")


evaluation()
end_tokens()
best(several(TEXTS[0]))
several([5 + i % 50 for i in range(150)])
chat()
shared_prefix()
refused()
finish()
