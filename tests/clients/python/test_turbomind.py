"""LMDeploy's TurboMind calls, as its tutorials make them, on a tiny model of random weights."""

import asyncio
import contextlib
import threading

import berth
import pytest
from berth import turbomind as tm
from conftest import DEMO_MODELS
from processes import until

GREEDY = berth.GenerationConfig(max_new_tokens=12, ignore_eos=True)
LONG = berth.GenerationConfig(max_new_tokens=1500, ignore_eos=True)


@pytest.fixture(scope="module")
def tm_model(local):
    made = tm.TurboMind.from_pretrained(local[0], engine_config=local[1])
    yield made
    made.close()


@pytest.fixture
def generator(tm_model):
    return tm_model.create_instance()


def ids_of(generator, *arguments, **options):
    *_, (status, token_ids, n) = generator.stream_infer(*arguments, gen_config=GREEDY, **options)
    assert status is tm.ResponseType.FINISH and len(token_ids) == n == 12
    return list(token_ids)


def test_the_tutorials_loop(tm_model, generator):
    prompt = tm_model.model.get_prompt("hello")
    input_ids = tm_model.tokenizer.encode(prompt)
    for outputs in generator.stream_infer(session_id=0, input_ids=[input_ids], gen_config=GREEDY):
        res, tokens = outputs[0]
    answer = tm_model.pipe("hello", GREEDY)
    assert res.tolist() == answer.token_ids and tokens == 12
    assert tm_model.tokenizer.decode(res.tolist()) == tm_model.tokenizer.decode(answer.token_ids)


def test_prompts_and_ids_go_both_ways(tm_model):
    tokenizer, model = tm_model.tokenizer, tm_model.model
    assert tokenizer.decode(tokenizer.encode("harbour")) == "harbour"
    assert tokenizer.decode(tokenizer.encode("harbour"), offset=4) == "our"
    assert tokenizer.encode("") == []
    first, following = model.get_prompt("hello"), model.get_prompt("and then?", sequence_start=False)
    assert "hello" in first and "and then?" in following and "hello" not in following
    turns = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "aye"},
        {"role": "user", "content": "and then?"},
    ]
    whole = model.messages2prompt(turns)
    assert whole.startswith(first) and whole.endswith(following)
    assert whole[len(first) : -len(following)].strip() == "aye"


def test_outputs_grow_and_the_last_says_that_it_is(generator):
    outputs = list(generator.stream_infer(1, [104, 105], gen_config=GREEDY, stream_output=True))
    assert [output.status for output in outputs[:-1]] == [tm.ResponseType.SUCCESS] * (len(outputs) - 1)
    assert outputs[-1].status is tm.ResponseType.FINISH
    for before, after in zip(outputs, outputs[1:]):
        assert after.token_ids[: before.num_token] == before.token_ids
    assert len(list(generator.stream_infer(1, [104, 105], request_output_len=3))) == 1


def test_a_session_goes_on_and_step_rewinds_it(generator):
    first = ids_of(generator, 2, [104, 105])
    second = ids_of(generator, 2, [[106]], sequence_start=False, step=14)
    assert second == ids_of(generator, 3, [104, 105, *first, 106])  # as if all had been one prompt
    assert second == ids_of(generator, 2, [106], sequence_start=False, step=14)  # the turn is taken again
    assert ids_of(generator, 2, [104, 105], sequence_start=True) == first  # and the session is begun again
    with pytest.raises(berth.InvalidRequestError, match="position"):
        list(generator.stream_infer(2, [106], sequence_start=False, step=5000))


def test_an_ended_session_is_gone(generator):
    ids_of(generator, 4, [104], sequence_end=True)
    ids_of(generator, 5, [104])
    generator.end(5)
    for session in (4, 5):
        ((status, ids, n),) = generator.stream_infer(session, [104], sequence_start=False, step=1)
        assert (status, ids, n) == (tm.ResponseType.SESSION_NOT_EXIST, [], 0)


def test_what_is_too_long_is_a_status(tm_model, generator):
    ((status, _, _),) = generator.stream_infer(6, [104] * (tm_model.session_len + 1))
    assert status is tm.ResponseType.INPUT_LENGTH_ERROR


@pytest.mark.parametrize("how", ["cancel", "stop", "leave"])
def test_a_running_turn_is_ended(slow_address, how):
    tm_model = tm.TurboMind(slow_address)
    generator = tm_model.create_instance()
    outputs = generator.stream_infer(7, [104], gen_config=LONG, stream_output=True)
    next(outputs)
    if how == "cancel":
        threading.Thread(target=generator.cancel, args=(7,)).start()
    elif how == "stop":
        list(generator.stream_infer(7, [], stop=True))
    else:
        outputs.close()
    rest = list(outputs)
    if how != "leave":
        assert rest[-1].status is tm.ResponseType.CANCEL and rest[-1].num_token < 1500
    else:
        until(lambda: not tm_model.pipe.run(tm_model.pipe.client.get_session(generator._name(7))).busy)
    generator.end(7)
    tm_model.close()


def test_asyncio_runs_sessions_side_by_side(generator):
    async def turn(session):
        return [
            list(output.token_ids)
            async for output in generator.async_stream_infer(session, [100 + session], gen_config=GREEDY)
        ][-1]

    async def all_turns():
        found = await asyncio.gather(*[turn(session) for session in range(8, 16)])
        await asyncio.gather(*[generator.async_end(session) for session in range(8, 16)])
        return found

    assert asyncio.run(all_turns()) == [ids_of(generator, session, [100 + session]) for session in range(8, 16)]


@pytest.mark.parametrize("begun", [False, True])
def test_cancelling_asyncio_ends_the_turn(slow_address, begun):
    tm_model = tm.TurboMind(slow_address)
    generator = tm_model.create_instance()

    async def cancel():
        outputs = generator.async_stream_infer(17, [104], gen_config=LONG, stream_output=True)
        if begun:
            await anext(outputs)
        waiting = asyncio.ensure_future(anext(outputs))
        await asyncio.sleep(0)  # it waits
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(cancel())
    if begun:
        until(lambda: not tm_model.pipe.run(tm_model.pipe.client.get_session(generator._name(17))).busy)
    ids_of(generator, 17, [104], sequence_start=not begun)
    generator.end(17)
    tm_model.close()


def test_bad_calls_are_named(generator, local):
    with pytest.raises(berth.InvalidRequestError, match="input_ids has 2 sequences"):
        list(generator.stream_infer(16, [[1], [2]]))
    with pytest.raises(TypeError, match="beam_width"):
        list(generator.stream_infer(16, [1], beam_width=4))
    with pytest.raises(berth.UnsupportedError, match="tp=2"):
        tm.TurboMind.from_pretrained(local[0], tp=2)


@pytest.mark.skipif(not DEMO_MODELS, reason="the demo model is not in .cache/models")
def test_the_demo_model_talks(local):
    with contextlib.closing(
        tm.TurboMind.from_pretrained(
            DEMO_MODELS[0], engine_config=berth.EngineConfig(device="cpu", program=local[1].program)
        )
    ) as tm_model:
        question, follow_up = "Say only the word yes.", "Now say only the word no."
        answer = tm_model.pipe(question)
        assert answer.text.startswith("Yes") and answer.finish_reason == "stop"
        prompt = tm_model.tokenizer.encode(tm_model.model.get_prompt(question))
        generator = tm_model.create_instance()
        ((status, ids, n),) = generator.stream_infer(0, [prompt])
        assert tm_model.tokenizer.decode(ids) == answer.text
        following = tm_model.tokenizer.encode(tm_model.model.get_prompt(follow_up, sequence_start=False))
        ((status, ids, n),) = generator.stream_infer(0, [following], sequence_start=False, step=len(prompt) + n)
        session = tm_model.pipe.chat(follow_up, tm_model.pipe.chat(question))
        assert tm_model.tokenizer.decode(ids) == session.response.text
