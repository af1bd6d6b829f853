"""Tool calls and reasoning over OpenAI's chat API: the simulated engine says what a model would."""
import json

import jsonschema
import openai
import pytest
from conftest import says

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
STRICT_WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 16}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
STRICT_TIME = {
    "type": "function",
    "function": {"name": "time", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}},
}
TIME = {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}
SCHEMAS = {tool["function"]["name"]: tool["function"]["parameters"] for tool in (STRICT_WEATHER, STRICT_TIME)}


def call(name, arguments):
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


PARIS = call("weather", '{"city": "Paris \u00e0 3h"}')
def dictated(text):
    return [json.loads(part.split("</tool_call>")[0]) for part in text.split("<tool_call>")[1:]]


ANSWERS = {
    "plain text": ("Just text.", "Just text.", None, []),
    "one call": (PARIS, None, None, [("weather", {"city": "Paris à 3h"})]),
    "text, then a call": ("I look.\n" + PARIS, "I look.", None, [("weather", {"city": "Paris à 3h"})]),
    "two calls": (PARIS + "\n" + call("time", "{}"), None, None, [("weather", {"city": "Paris à 3h"}), ("time", {})]),
    "reasoning, then text": ("<think>\nHm.\n</think>\n\nYes.", "Yes.", "Hm.", []),
    "reasoning, then a call": ("<think>Hm.</think>" + call("time", "{}"), None, "Hm.", [("time", {})]),
    "no call at all": ("<tool_call>never mind</tool_call>", "<tool_call>never mind</tool_call>", None, []),
}


def chat(client, text, **more):
    settings = dict(model="sim", messages=[{"role": "user", "content": says(text)}], max_tokens=400, tools=[WEATHER, TIME])
    return client.chat.completions.create(**{name: value for name, value in {**settings, **more}.items() if value is not None})


def gathered(stream):
    """(content, reasoning, calls, finish reason) of a stream."""
    content, reasoning, calls, reason = "", "", {}, None
    for chunk in stream:
        choice = chunk.choices[0]
        content += choice.delta.content or ""
        reasoning += getattr(choice.delta, "reasoning_content", None) or ""
        for part in choice.delta.tool_calls or []:
            if part.id:
                assert part.index not in calls
                calls[part.index] = [part.id, part.function.name, ""]
            calls[part.index][2] += part.function.arguments or ""
        reason = choice.finish_reason or reason
    return content or None, reasoning or None, [tuple(calls[i]) for i in sorted(calls)], reason


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("case", ANSWERS)
def test_what_a_model_says_is_told_apart(sim_client, case, stream):
    text, content, reasoning, calls = ANSWERS[case]
    if stream:
        got = gathered(chat(sim_client, text, stream=True))
    else:
        choice = chat(sim_client, text).choices[0]
        message = choice.message
        got = (message.content or None, getattr(message, "reasoning_content", None),
               [(c.id, c.function.name, c.function.arguments) for c in message.tool_calls or []], choice.finish_reason)  # fmt: skip
    assert got[:2] == (content, reasoning)
    assert [(name, json.loads(arguments)) for _, name, arguments in got[2]] == calls
    assert len({identity for identity, _, _ in got[2]}) == len(calls)
    assert got[3] == ("tool_calls" if calls else "stop")


def test_without_tools_a_call_is_text(sim_client):
    answer = chat(sim_client, PARIS, tools=None)
    assert answer.choices[0].message.content == PARIS
    assert answer.choices[0].finish_reason == "stop"
    assert chat(sim_client, PARIS, tool_choice="none").choices[0].message.tool_calls is None


def test_a_named_tool_is_called(sim_client):
    choice = {"type": "function", "function": {"name": "time"}}
    opening = '<tool_call>\n{"name": "time", "arguments":'
    for stream in (False, True):
        answer = chat(sim_client, opening + ' {"zone": 1}}\n</tool_call>', tool_choice=choice, stream=stream)
        if stream:
            calls = gathered(answer)[2]
        else:
            calls = [(c.id, c.function.name, c.function.arguments) for c in answer.choices[0].message.tool_calls]
        assert [(name, json.loads(arguments)) for _, name, arguments in calls] == [("time", {"zone": 1})]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("text", ["Just text.", PARIS, call("time", "{}") + "\n" + PARIS], ids=["text", "call", "calls"])
def test_a_required_call_is_made_whatever_the_model_would_say(sim_client, text, stream):
    answer = chat(sim_client, text, tool_choice="required", tools=[STRICT_WEATHER, STRICT_TIME], stream=stream, seed=7)
    if stream:
        content, _, calls, reason = gathered(answer)
        calls = [call[1:] for call in calls]
    else:
        message, reason = answer.choices[0].message, answer.choices[0].finish_reason
        content, calls = message.content, [(c.function.name, c.function.arguments) for c in message.tool_calls]
    assert (content, reason) == (None, "tool_calls")
    if text != "Just text.":
        assert calls == [(c["name"], json.dumps(c["arguments"], ensure_ascii=False)) for c in dictated(text)]
    for name, arguments in calls:
        jsonschema.validate(json.loads(arguments), SCHEMAS[name])


def test_a_named_tools_arguments_match_its_parameters(sim_client):
    choice = {"type": "function", "function": {"name": "weather"}}
    answer = chat(sim_client, "I had rather not.", tools=[TIME, STRICT_WEATHER], tool_choice=choice, max_tokens=2000, seed=1, n=2)
    for one in answer.choices:
        (made,) = one.message.tool_calls
        assert made.function.name == "weather"
        jsonschema.validate(json.loads(made.function.arguments), SCHEMAS["weather"])


def test_what_a_required_call_needs_is_named(sim_client):
    with pytest.raises(openai.BadRequestError, match="no tools") as error:
        chat(sim_client, "x", tool_choice="required", tools=None)
    assert error.value.param == "tool_choice"
    odd = {"type": "function", "function": {"name": "odd", "parameters": {"not": {}}}}
    assert chat(sim_client, "x", tool_choice="required", tools=[odd], max_tokens=2000).choices[0].message.tool_calls
    odd["function"]["strict"] = True
    with pytest.raises(openai.BadRequestError, match='"odd": JSON schema #/not: is not supported') as error:
        chat(sim_client, "x", tool_choice="required", tools=[odd])
    assert error.value.param == "tools"


def test_one_call_at_a_time(sim_client):
    answer = chat(sim_client, PARIS + call("time", "{}"), parallel_tool_calls=False)
    assert [c.function.name for c in answer.choices[0].message.tool_calls] == ["weather"]


def test_a_tools_answer_goes_back(sim_client):
    first = chat(sim_client, PARIS).choices[0].message
    messages = [
        {"role": "user", "content": "How is it?"},
        first.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": says("Sunny.")},
    ]
    assert chat(sim_client, "", messages=messages).choices[0].message.content == "Sunny."


def test_each_choice_calls_for_itself(sim_client):
    answer = chat(sim_client, PARIS, n=2)
    assert [c.message.tool_calls[0].function.name for c in answer.choices] == ["weather"] * 2
    assert len({c.message.tool_calls[0].id for c in answer.choices}) == 2


def test_a_call_that_is_cut_off_says_so(sim_client):
    choice = chat(sim_client, PARIS, max_tokens=50).choices[0]
    assert choice.finish_reason == "length"
    assert choice.message.tool_calls[0].function.name == "weather"


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_a_call_goes_on_when_its_worker_dies(doomed, choice):
    client = openai.OpenAI(base_url=doomed.url + "/v1", api_key="none", max_retries=0, timeout=60)
    thought = "Hm." if choice == "auto" else None
    text = (f"<think>{thought}</think>" if thought else "") + call("weather", '{"city": "' + "Paris " * 30 + '"}') + "\n" + PARIS
    settings = dict(messages=[{"role": "user", "content": says(text)}], max_tokens=400, tools=[WEATHER, TIME], tool_choice=choice)
    with client.chat.completions.with_streaming_response.create(
        model="sim", stream=True, **settings
    ) as response:
        worker = doomed.workers[response.headers["X-Worker-Hint"].split("/")[0]]
        chunks = []
        for chunk in response.parse():
            chunks.append(chunk)
            if len(chunks) == 40:
                worker.kill()
    content, reasoning, calls, reason = gathered(chunks)
    assert (content, reasoning, reason) == (None, thought, "tool_calls")
    assert [(name, json.loads(arguments)["city"][:5]) for _, name, arguments in calls] == [("weather", "Paris")] * 2
    assert doomed.metric(doomed.gateway, "berth_gateway_failovers_total", result="ok") == 1, "no stream was hit"


def test_a_model_without_a_format_of_calls_refuses_tools(demo):
    client = openai.OpenAI(base_url=demo.url + "/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.BadRequestError, match="tool"):
        client.chat.completions.create(model=client.models.list().data[0].id, messages=[{"role": "user", "content": "x"}], tools=[TIME])
