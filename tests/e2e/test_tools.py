"""Tool calls and reasoning over OpenAI's chat API: the simulated engine says what a model would."""
import json

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
TIME = {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}


def call(name, arguments):
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


PARIS = call("weather", '{"city": "Paris \u00e0 3h"}')
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


def test_required_needs_one_tool(sim_client):
    answer = chat(sim_client, '<tool_call>\n{"name": "time", "arguments": {}}</tool_call>', tools=[TIME], tool_choice="required")
    assert answer.choices[0].message.tool_calls[0].function.name == "time"
    with pytest.raises(openai.BadRequestError) as error:
        chat(sim_client, "x", tool_choice="required")
    assert error.value.param == "tool_choice"


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


def test_a_call_goes_on_when_its_worker_dies(doomed):
    client = openai.OpenAI(base_url=doomed.url + "/v1", api_key="none", max_retries=0, timeout=60)
    text = "<think>Hm.</think>" + call("weather", '{"city": "' + "Paris " * 30 + '"}') + PARIS
    with client.chat.completions.with_streaming_response.create(
        model="sim", messages=[{"role": "user", "content": says(text)}], max_tokens=400, tools=[WEATHER, TIME], stream=True
    ) as response:
        worker = doomed.workers[response.headers["X-Worker-Hint"].split("/")[0]]
        chunks = []
        for chunk in response.parse():
            chunks.append(chunk)
            if len(chunks) == 40:
                worker.kill()
    content, reasoning, calls, reason = gathered(chunks)
    assert (content, reasoning, reason) == (None, "Hm.", "tool_calls")
    assert [(name, json.loads(arguments)["city"][:5]) for _, name, arguments in calls] == [("weather", "Paris")] * 2
    assert doomed.metric(doomed.gateway, "berth_gateway_failovers_total", result="ok") == 1, "no stream was hit"


def test_a_model_without_a_format_of_calls_refuses_tools(demo):
    client = openai.OpenAI(base_url=demo.url + "/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.BadRequestError, match="tool"):
        client.chat.completions.create(model=client.models.list().data[0].id, messages=[{"role": "user", "content": "x"}], tools=[TIME])
