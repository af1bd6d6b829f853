"""Anthropic's Messages API with the official SDK, on the simulated engine."""
import asyncio

import anthropic
import pytest
from conftest import says
from processes import until
from test_tools import PARIS, call

TOOLS = [
    {"name": "weather", "description": "The weather.", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}},
    {"name": "time", "input_schema": {"type": "object"}},
]


@pytest.fixture
def claude(sim):
    return anthropic.Anthropic(base_url=sim.url, api_key="none", max_retries=0, timeout=60)


def create(client, text, **more):
    settings = dict(model="sim", max_tokens=400, messages=[{"role": "user", "content": says(text)}])
    return client.messages.create(**{**settings, **more})


def test_text(claude):
    answer = create(claude, "Hello.", system="Be kind.", metadata={"user_id": "u"},
                    extra_body={"temperature": 0.5, "top_p": 0.9, "top_k": 5})  # fmt: skip
    assert (answer.type, answer.role, answer.model, answer.stop_reason) == ("message", "assistant", "sim", "end_turn")
    assert [block.text for block in answer.content] == ["Hello."]
    assert answer.usage.input_tokens + answer.usage.cache_read_input_tokens > 20
    assert answer.usage.output_tokens == 7


def test_blocks_and_turns(claude):
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "text", "text": "!"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Ho"}]},
        {"role": "user", "content": says("Bye.")},
    ]
    system = [{"type": "text", "text": "Be kind."}]
    assert create(claude, "", messages=messages, system=system).content[0].text == "Bye."


def test_the_limit_of_tokens(claude):
    answer = create(claude, "a long answer", max_tokens=3)
    assert (answer.stop_reason, answer.content[0].text) == ("max_tokens", "a l")


def test_a_stop_sequence(claude):
    answer = create(claude, "one, two END three", stop_sequences=["END", "never"])
    assert (answer.stop_reason, answer.stop_sequence, answer.content[0].text) == ("stop_sequence", "END", "one, two ")


def test_tools(claude):
    answer = create(claude, "See.\n" + PARIS + call("time", "{}"), tools=TOOLS)
    assert answer.stop_reason == "tool_use"
    assert [block.type for block in answer.content] == ["text", "tool_use", "tool_use"]
    assert [(block.name, block.input) for block in answer.content[1:]] == [("weather", {"city": "Paris à 3h"}), ("time", {})]
    results = [{"type": "tool_result", "tool_use_id": block.id, "content": says("Sunny.")} for block in answer.content[1:]]
    messages = [
        {"role": "user", "content": "How is it?"},
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in answer.content]},
        {"role": "user", "content": results},
    ]
    assert create(claude, "", messages=messages, tools=TOOLS).content[0].text == "Sunny."


def test_a_choice_of_tool(claude):
    opening = '<tool_call>\n{"name": "time", "arguments":'
    answer = create(claude, opening + " {}}</tool_call>", tools=TOOLS, tool_choice={"type": "tool", "name": "time"})
    assert [(block.name, block.input) for block in answer.content] == [("time", {})]
    answer = create(claude, "No.", tools=TOOLS, tool_choice={"type": "any"})
    assert {block.type for block in answer.content} == {"tool_use"}
    assert create(claude, PARIS, tools=TOOLS, tool_choice={"type": "none"}).content[0].text == PARIS
    single = {"type": "auto", "disable_parallel_tool_use": True}
    assert len(create(claude, PARIS + call("time", "{}"), tools=TOOLS, tool_choice=single).content) == 1


def test_thinking(claude):
    answer = create(claude, "<think>\nHm.\n</think>\n\nYes.", thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2000)
    assert [block.type for block in answer.content] == ["thinking", "text"]
    assert (answer.content[0].thinking, answer.content[1].text) == ("Hm.", "Yes.")


@pytest.mark.parametrize(
    "text", ["Hello.", "See. " + PARIS, PARIS + call("time", "{}"), "<think>Hm.</think>Yes."],
    ids=["text", "text and call", "calls", "thinking"],
)  # fmt: skip
def test_a_stream_makes_the_same_message(claude, text):
    whole = create(claude, text, tools=TOOLS)
    with claude.messages.stream(
        model="sim", max_tokens=400, messages=[{"role": "user", "content": says(text)}], tools=TOOLS
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    def plain(message):
        return [{**block.model_dump(), "id": None} for block in message.content]
    assert plain(final) == plain(whole)
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == len(whole.content)


def test_count_tokens(claude):
    messages = [{"role": "user", "content": "Hello"}]
    alone = claude.messages.count_tokens(model="sim", messages=messages).input_tokens
    assert alone == create(claude, "", messages=messages, max_tokens=1).usage.input_tokens
    assert claude.messages.count_tokens(model="sim", messages=messages, system="x", tools=TOOLS).input_tokens > alone


@pytest.mark.parametrize(
    "more, error",
    [({"extra_body": {"temperature": 7}}, anthropic.BadRequestError), ({"messages": []}, anthropic.BadRequestError),
     ({"model": "gpt-9"}, anthropic.NotFoundError), ({"max_tokens": 0}, anthropic.BadRequestError),
     ({"tools": [{"name": "a b", "input_schema": {}}]}, anthropic.BadRequestError),
     ({"tool_choice": {"type": "any"}}, anthropic.BadRequestError),
     ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, anthropic.BadRequestError)],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_errors_are_the_sdks_own(claude, more, error):
    with pytest.raises(error) as raised:
        create(claude, "x", **more)
    assert raised.value.body["type"] == "error"
    assert raised.value.body["error"]["type"] in ("invalid_request_error", "not_found_error")


def test_the_key_may_come_as_this_sdk_sends_it(guarded):
    client = anthropic.Anthropic(base_url=guarded.url, api_key="secret", max_retries=0)
    assert create(client, "Hi", max_tokens=2).content[0].text == "Hi"
    with pytest.raises(anthropic.AuthenticationError):
        create(anthropic.Anthropic(base_url=guarded.url, api_key="wrong", max_retries=0), "Hi")


def test_asynchronous_calls_run_side_by_side(sim):
    async def streamed(client, text):
        messages = [{"role": "user", "content": says(text)}]
        async with client.messages.stream(model="sim", max_tokens=40, messages=messages) as stream:
            return "".join([part async for part in stream.text_stream])

    async def run():
        async with anthropic.AsyncAnthropic(base_url=sim.url, api_key="none", max_retries=0, timeout=60) as client:
            texts = [f"answer {number}" for number in range(8)]
            assert await asyncio.gather(*(streamed(client, text) for text in texts)) == texts
            assert (await create(client, "whole")).content[0].text == "whole"

    asyncio.run(run())


def test_leaving_a_stream_cancels_it(claude, sim):
    settings = dict(model="sim", max_tokens=4000, messages=[{"role": "user", "content": "go on"}])
    with claude.messages.stream(**settings, extra_body={"ignore_eos": True}) as stream:
        next(iter(stream.text_stream))
    until(lambda: sim.running() == 0)
