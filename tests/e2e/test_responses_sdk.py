"""OpenAI's Responses API with the official SDK, on the simulated engine."""
import json

import openai
import pytest
from conftest import says
from test_tools import PARIS, call

TOOLS = [{"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
         {"type": "function", "name": "time", "parameters": {"type": "object"}}]  # fmt: skip


def create(client, text, **more):
    return client.responses.create(model="sim", input=says(text), **more)


def test_text(sim_client):
    answer = create(sim_client, "Hello.", metadata={"a": "b"}, instructions="Be kind.")
    assert (answer.object, answer.status, answer.output_text) == ("response", "completed", "Hello.")
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer.metadata == {"a": "b"}
    assert answer.instructions == "Be kind."
    assert answer.id.startswith("resp_")


def test_a_conversation_as_items(sim_client):
    items = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Ho", "annotations": []}]},
        {"role": "user", "content": says("Bye.")},
    ]
    assert sim_client.responses.create(model="sim", input=items).output_text == "Bye."


def test_the_limit_of_tokens_makes_it_incomplete(sim_client):
    answer = create(sim_client, "a long answer", max_output_tokens=3)
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.output_text == "a l"


def test_function_calls(sim_client):
    answer = create(sim_client, "See.\n" + PARIS + call("time", "{}"), tools=TOOLS)
    assert [item.type for item in answer.output] == ["message", "function_call", "function_call"]
    assert [item.name for item in answer.output[1:]] == ["weather", "time"]
    assert json.loads(answer.output[1].arguments) == {"city": "Paris à 3h"}
    items = [{"role": "user", "content": "How is it?"}, *[item.model_dump(exclude_none=True) for item in answer.output]]
    for item in answer.output[1:]:
        items.append({"type": "function_call_output", "call_id": item.call_id, "output": says("Sunny.")})
    assert sim_client.responses.create(model="sim", input=items, tools=TOOLS).output_text == "Sunny."


@pytest.mark.parametrize(
    "text, types",
    [("Hello.", ["message"]), (PARIS, ["function_call"]), ("See. " + PARIS, ["message", "function_call"]),
     ("<think>Hm.</think>Yes.", ["reasoning", "message"])],
    ids=["text", "call", "text and call", "reasoning"],
)  # fmt: skip
def test_a_stream_tells_the_same_step_by_step(sim_client, text, types):
    whole = create(sim_client, text, tools=TOOLS)
    with sim_client.responses.stream(model="sim", input=says(text), tools=TOOLS) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [item.type for item in final.output] == types
    assert final.output_text == whole.output_text
    for ours, theirs in zip(final.output, whole.output):
        if ours.type == "function_call":
            assert (ours.name, ours.arguments) == (theirs.name, theirs.arguments)
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert kinds.count("response.output_item.added") == kinds.count("response.output_item.done") == len(types)
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text
    assert [event.sequence_number for event in events] == list(range(len(events)))


@pytest.mark.parametrize(
    "more",
    [{"previous_response_id": "resp_1"}, {"background": True}, {"truncation": "auto"}, {"tools": [{"type": "web_search"}]},
     {"include": ["reasoning.encrypted_content"]}, {"temperature": 7}, {"max_output_tokens": 0}],
    ids=lambda more: next(iter(more)),
)  # fmt: skip
def test_what_is_not_offered_is_refused_by_name(sim_client, more):
    with pytest.raises(openai.BadRequestError) as error:
        create(sim_client, "x", **more)
    assert next(iter(more)) in error.value.param or "max_tokens" in error.value.param
