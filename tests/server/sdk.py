"""OpenAI's and Anthropic's own Python clients against a running server.  usage: sdk.py PORT [tools]   with tools: the model
answers the talk below with a call.  Runs in the environment that tests/clients/sdk.sh makes.

Prints a line for each thing that is not as it should be; exit code 1 then."""
import asyncio
import json
import os
import sys
import typing

import anthropic
import openai
import pydantic
from checks import check, finish
from schema import Api

PORT = int(sys.argv[1])
TEXT = "It was the best of times, it was"
oa = openai.OpenAI(base_url=f"http://127.0.0.1:{PORT}/v1", api_key="none", max_retries=0)
an = anthropic.Anthropic(base_url=f"http://127.0.0.1:{PORT}", api_key="none", max_retries=0)
spec = os.path.join(os.environ.get("FATHOM_SHARED", "../shared"), "data/5-conformance/openai-openapi/openapi.json")
api = Api(spec) if os.path.exists(spec) else None


def fits(raw, name, what):
    """Whether an answer's bytes fit OpenAI's description; where that is not at hand, tests/cli/serve.sh does its share."""
    if api:
        for f in api.faults(json.loads(raw), name)[:5]:
            check(False, f"{what} is no {name}: {f}")


def raises(kind, status, f, **args):
    try:
        f(**args)
        check(False, f"{kind.__name__} wanted")
    except kind as e:
        check(e.status_code == status and e.request_id, f"{kind.__name__}: {e.status_code} {e.request_id}")


CHAT = {"model": "fathom", "messages": [{"role": "user", "content": TEXT}], "temperature": 0, "max_tokens": 24}


def chat():
    raw = oa.chat.completions.with_raw_response.create(**CHAT)
    fits(raw.text, "CreateChatCompletionResponse", "chat")
    whole = raw.parse()
    text = whole.choices[0].message.content
    check(text and whole.choices[0].finish_reason in ("stop", "length") and whole._request_id, f"chat: {whole}")
    got, usage = "", []
    for chunk in oa.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True}):
        fits(chunk.model_dump_json(exclude_unset=True), "CreateChatCompletionStreamResponse", "chunk")
        got += chunk.choices[0].delta.content or ""
        usage += [chunk.usage] if chunk.usage else []
    check(got == text and usage == [whole.usage], f"chat stream: {got!r}, not {text!r}; {usage}")
    with oa.chat.completions.stream(**CHAT, stop=[text[8:11]]) as s:  # its own accumulator raises at a length limit
        final = s.get_final_completion()
    check(final.choices[0].message.content == text[:text.index(text[8:11])], f"chat: accumulated {final}")
    probs = oa.chat.completions.with_raw_response.create(**CHAT, logprobs=True, top_logprobs=2)
    fits(probs.text, "CreateChatCompletionResponse", "logprobs")
    check(len(probs.parse().choices[0].logprobs.content) == whole.usage.completion_tokens, "logprobs: one a token")
    old = oa.completions.with_raw_response.create(model="m", prompt=TEXT, max_tokens=8, temperature=0, logprobs=2)
    fits(old.text, "CreateCompletionResponse", "completion")
    got = "".join(c.choices[0].text for c in oa.completions.create(model="m", prompt=TEXT, max_tokens=8, temperature=0, stream=True))
    check(got == old.parse().choices[0].text, f"completions: {got!r}")
    choices()
    fits(oa.models.with_raw_response.list().text, "ListModelsResponse", "models")
    name = oa.models.list().data[0].id
    fits(oa.models.with_raw_response.retrieve(name).text, "Model", "model")
    raises(openai.NotFoundError, 404, oa.models.retrieve, model="another")
    raises(openai.BadRequestError, 400, oa.chat.completions.create, model="m", messages=[])
    raises(openai.UnprocessableEntityError, 422, oa.chat.completions.create, **{**CHAT, "temperature": 3})
    return text


def choices():
    """Several choices and prompts, probabilities of a prompt, a given beginning, embeddings."""
    asked = {"model": "m", "prompt": [TEXT, "The sea"], "max_tokens": 1, "temperature": 0, "logprobs": 1, "n": 2}
    fits(oa.completions.with_raw_response.create(**asked).text, "CreateCompletionResponse", "completions")
    got = oa.completions.create(**asked, echo=True).choices  # its first entries are null, which the description does not know
    check([c.index for c in got] == [0, 1, 2, 3] and got[0].text.startswith(TEXT) and got[2].text.startswith("The sea"), f"{got}")
    check(all(len(c.logprobs.tokens) == len(c.logprobs.token_logprobs) and c.logprobs.token_logprobs[0] is None for c in got), f"{got}")
    raw = oa.chat.completions.with_raw_response.create(**{**CHAT, "temperature": 1}, n=3, seed=5)
    fits(raw.text, "CreateChatCompletionResponse", "three choices")
    texts = [c.message.content for c in raw.parse().choices]
    streamed = [""] * 3
    for chunk in oa.chat.completions.create(**{**CHAT, "temperature": 1}, n=3, seed=5, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    check(streamed == texts, f"three choices: {streamed}, not {texts}")
    begun = CHAT["messages"] + [{"role": "assistant", "content": "Well,", "prefix": True}]
    check(oa.chat.completions.create(**{**CHAT, "messages": begun}).choices[0].message.content, "a given beginning")
    raw = oa.embeddings.with_raw_response.create(model="m", input=[TEXT, "The sea"], encoding_format="float")
    fits(raw.text, "CreateEmbeddingResponse", "embeddings")
    want = [e.embedding for e in raw.parse().data]
    got = [e.embedding for e in oa.embeddings.create(model="m", input=[TEXT, "The sea"]).data]  # it asks for base64
    check([len(e) for e in got] == [len(e) for e in want] and
          all(abs(x - y) < 1e-6 for a, b in zip(got, want) for x, y in zip(a, b)), "embeddings: base64 and float")


async def together(text):
    """Eight at a time, from the asynchronous client; one of them breaks off."""
    client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{PORT}/v1", api_key="none", max_retries=0)

    async def one(i):
        got = ""
        stream = await client.chat.completions.create(**CHAT, stream=True)
        async for chunk in stream:
            got += chunk.choices[0].delta.content or ""
            if i == 3:
                await stream.close()
                return text
        return got

    got = await asyncio.gather(*(one(i) for i in range(8)))
    check(got == [text] * 8, f"together: {got}")


def responses(text):
    args = {"model": "fathom", "input": TEXT, "temperature": 0, "max_output_tokens": 24}
    raw = oa.responses.with_raw_response.create(**args)
    fits(raw.text, "Response", "response")
    check(raw.parse().output_text == text, f"responses: {raw.text}")
    got, last = "", None
    for e in oa.responses.create(**args, stream=True):
        fits(e.model_dump_json(exclude_unset=True), "ResponseStreamEvent", e.type)
        got += e.delta if e.type == "response.output_text.delta" else ""
        last = e
    check(got == text and last.response.output_text == text, f"responses stream: {got!r}, last {last}")
    check(last.type in ("response.completed", "response.incomplete"), f"responses: {last.type}")
    with oa.responses.stream(**args, extra_body={"stop": text[8:11]}) as s:
        final = s.get_final_response()
    check(final.output_text == text[:text.index(text[8:11])], f"responses: accumulated {final}")
    raises(openai.BadRequestError, 400, oa.responses.create, model="m", input=[])


def messages(text):
    args = {"model": "claude-x", "max_tokens": 24, "messages": CHAT["messages"], "extra_body": {"temperature": 0}}
    whole = an.messages.create(**args)
    check([b.text for b in whole.content] == [text] and whole.role == "assistant", f"messages: {whole}")
    with an.messages.stream(**args) as s:
        got = "".join(s.text_stream)
        final = s.get_final_message()
    check(got == text and final.content[0].text == text and final.stop_reason == whole.stop_reason, f"messages: {final}")
    check(final.usage.output_tokens == whole.usage.output_tokens, f"messages: {final.usage}")
    n = an.messages.count_tokens(model="m", messages=CHAT["messages"]).input_tokens
    check(n == whole.usage.input_tokens + whole.usage.cache_read_input_tokens, f"count_tokens: {n}, {whole.usage}")
    raises(anthropic.BadRequestError, 400, an.messages.create, model="m", max_tokens=5, messages=[])


class Weather(pydantic.BaseModel):
    """What any model has to answer with; short enough to end always."""
    city: typing.Literal["Paris", "Rome"]
    degrees: int = pydantic.Field(ge=-20, le=40)
    kind: typing.Optional[typing.Literal["rain", "sun"]]
    code: str = pydantic.Field(pattern="^[A-Z]{3}$")
    hours: list[typing.Literal["day", "night"]] = pydantic.Field(min_length=1, max_length=3)


def forms():
    """Answers of a form: the clients make the schema of a class, and objects of the class of the answer."""
    args = {"model": "m", "messages": CHAT["messages"], "max_tokens": 500}
    words = {"name": "weather", "strict": True, "schema": {**Weather.model_json_schema(), "additionalProperties": False}}
    for seed in (1, 2):
        got = oa.chat.completions.parse(**args, seed=seed, response_format=Weather).choices[0]
        check(isinstance(got.message.parsed, Weather) and got.finish_reason == "stop", f"parse: {got}")
        with oa.chat.completions.stream(**args, seed=seed, response_format=Weather) as s:
            streamed = s.get_final_completion().choices[0].message
        check(streamed.parsed == got.message.parsed and streamed.content == got.message.content, f"parse, streamed: {streamed}, not {got}")
        raw = oa.chat.completions.with_raw_response.create(**args, seed=seed, response_format={"type": "json_schema", "json_schema": words})
        fits(raw.text, "CreateChatCompletionResponse", "chat of a schema")
        check(Weather.model_validate_json(raw.parse().choices[0].message.content), "a schema by hand")
        raw = oa.chat.completions.create(**{**args, "max_tokens": 60}, seed=seed, response_format={"type": "json_object"}).choices[0]
        check(raw.message.content.startswith("{") and (raw.finish_reason == "length" or isinstance(json.loads(raw.message.content), dict)),
              f"JSON mode: {raw}")
        args2 = {"model": "m", "input": TEXT, "max_output_tokens": 500, "extra_body": {"seed": seed}}
        got = oa.responses.parse(**args2, text_format=Weather)
        check(isinstance(got.output_parsed, Weather) and got.status == "completed", f"responses, parse: {got}")
        with oa.responses.stream(**args2, text_format=Weather) as s:
            final = s.get_final_response()
        check(final.output_parsed == got.output_parsed, f"responses, parse, streamed: {final}")
        raw = oa.responses.with_raw_response.create(**args2, text={"format": {"type": "json_schema", **words}})
        fits(raw.text, "Response", "response of a schema")
        check(Weather.model_validate_json(raw.parse().output_text), "responses, a schema by hand")
    bad = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "array", "unevaluatedItems": False}}}
    raises(openai.BadRequestError, 400, oa.chat.completions.create, **args, response_format=bad)


# ---- tools ----

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ARGUMENTS = {"city": "Berlin"}


def talk(call, result):
    out = []
    for i, city in enumerate(("Paris", "Rome", "Oslo", "Madrid", "Lima", "Cairo")):
        out += [{"role": "user", "content": f"Weather in {city}?"}, call(f"c{i}", {"city": city}), result(f"c{i}"),
                {"role": "assistant", "content": "It is sunny."}]
    return out + [{"role": "user", "content": "Weather in Berlin?"}]


def chat_tools():
    told = talk(lambda i, a: {"role": "assistant", "content": None, "tool_calls": [
        {"id": i, "type": "function", "function": {"name": "get_weather", "arguments": json.dumps(a)}}]},
        lambda i: {"role": "tool", "tool_call_id": i, "content": "sunny"})
    tool = {"type": "function", "function": {"name": "get_weather", "description": "d", "parameters": SCHEMA}}
    args = {"model": "m", "messages": told, "temperature": 0, "max_tokens": 60, "tools": [tool]}
    raw = oa.chat.completions.with_raw_response.create(**args)
    fits(raw.text, "CreateChatCompletionResponse", "chat with a call")
    choice = raw.parse().choices[0]
    calls = [(c.function.name, json.loads(c.function.arguments)) for c in choice.message.tool_calls or []]
    check(calls == [("get_weather", ARGUMENTS)] and choice.finish_reason == "tool_calls", f"chat: {choice}")
    with oa.chat.completions.stream(**args) as s:
        final = s.get_final_completion().choices[0]
    calls = [(c.function.name, json.loads(c.function.arguments)) for c in final.message.tool_calls or []]
    check(calls == [("get_weather", ARGUMENTS)] and final.finish_reason == "tool_calls", f"chat stream: {final}")
    # the client's own answer goes back, and the talk goes on
    call = choice.message.tool_calls[0]
    more = told + [choice.message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    check(oa.chat.completions.create(**{**args, "messages": more}).choices[0].message.content, "the talk goes on")


def response_tools():
    items = talk(lambda i, a: {"type": "function_call", "call_id": i, "name": "get_weather", "arguments": json.dumps(a)},
                 lambda i: {"type": "function_call_output", "call_id": i, "output": "sunny"})
    tool = {"type": "function", "name": "get_weather", "description": "d", "parameters": SCHEMA, "strict": False}
    args = {"model": "m", "input": items, "temperature": 0, "max_output_tokens": 60, "tools": [tool]}
    raw = oa.responses.with_raw_response.create(**args)
    fits(raw.text, "Response", "response with a call")
    got = [(o.name, json.loads(o.arguments)) for o in raw.parse().output if o.type == "function_call"]
    check(got == [("get_weather", ARGUMENTS)], f"responses: {raw.text}")
    with oa.responses.stream(**args) as s:
        for e in s:
            fits(e.model_dump_json(exclude_unset=True, exclude={"snapshot": True, "parsed_arguments": True}),
                 "ResponseStreamEvent", e.type)
        final = s.get_final_response()
    check([json.loads(o.arguments) for o in final.output if o.type == "function_call"] == [ARGUMENTS], f"responses: {final}")


def message_tools():
    told = talk(lambda i, a: {"role": "assistant", "content": [{"type": "tool_use", "id": i, "name": "get_weather", "input": a}]},
                lambda i: {"role": "user", "content": [{"type": "tool_result", "tool_use_id": i, "content": "sunny"}]})
    args = {"model": "m", "messages": told, "extra_body": {"temperature": 0}, "max_tokens": 60,
            "tools": [{"name": "get_weather", "description": "d", "input_schema": SCHEMA}]}
    whole = an.messages.create(**args)
    calls = [(b.name, b.input) for b in whole.content if b.type == "tool_use"]
    check(calls == [("get_weather", ARGUMENTS)] and whole.stop_reason == "tool_use", f"messages: {whole}")
    with an.messages.stream(**args) as s:
        final = s.get_final_message()
    calls = [(b.name, b.input) for b in final.content if b.type == "tool_use"]
    check(calls == [("get_weather", ARGUMENTS)] and final.stop_reason == "tool_use", f"messages stream: {final}")
    n = an.messages.count_tokens(model="m", messages=told, tools=args["tools"]).input_tokens
    check(n == whole.usage.input_tokens + whole.usage.cache_read_input_tokens, f"count_tokens: {n}, {whole.usage}")
    more = told + [{"role": "assistant", "content": whole.content},
                   {"role": "user", "content": [{"type": "tool_result", "tool_use_id": whole.content[-1].id, "content": "sunny"}]}]
    check(an.messages.create(**{**args, "messages": more}).content, "the talk goes on")


if sys.argv[2:] == ["tools"]:
    chat_tools()
    response_tools()
    message_tools()
else:
    said = chat()
    asyncio.run(together(said))
    responses(said)
    messages(said)
    forms()
finish()
