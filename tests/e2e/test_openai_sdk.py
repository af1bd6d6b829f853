"""The official OpenAI SDK against a gateway."""
import asyncio
import threading

import openai
import pytest
from conftest import says
from processes import until

QUESTION = [{"role": "user", "content": "Name three colours of the rainbow."}]


# The simulated engine draws from the seed even at temperature 0, so that a wrong resume shows.
def ask(client, model, **more):
    return client.chat.completions.create(model=model, messages=QUESTION, max_tokens=16, **{"seed": 1, **more})


def test_models(client, model):
    assert client.models.retrieve(model).id == model
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-9")


def test_chat(client, model):
    answer = ask(client, model, temperature=0)
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert 1 <= answer.usage.completion_tokens <= 16
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0


def test_a_stream_equals_the_whole_answer(client, model):
    whole = ask(client, model, temperature=0).choices[0].message.content
    chunks = list(ask(client, model, temperature=0, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] in ("stop", "length")
    assert chunks[-1].usage.completion_tokens >= 1
    assert all(c.usage is None for c in chunks[:-1])
    assert len({c.id for c in chunks}) == 1


def test_a_stop_string_ends_the_answer_and_is_not_in_it(client, model):
    whole = ask(client, model, temperature=0).choices[0].message.content
    stop = whole[3:6]
    for stream in (False, True):
        answer = ask(client, model, temperature=0, stop=[stop], stream=stream)
        if stream:
            chunks = [c.choices[0] for c in answer]
            text, reason = "".join(c.delta.content or "" for c in chunks), chunks[-1].finish_reason
        else:
            text, reason = answer.choices[0].message.content, answer.choices[0].finish_reason
        assert text == whole[: whole.index(stop)]
        assert reason == "stop"


def test_the_seed_decides(client, model):
    def text(seed):
        return ask(client, model, temperature=1.5, seed=seed).choices[0].message.content

    assert text(1) == text(1)
    assert len({text(seed) for seed in range(4)}) > 1


# As evaluation harnesses ask how likely a text is.
def test_a_text_is_scored(client, model):
    def ask(**more):
        options = {"prompt": "One, two, three, four", "echo": True, "logprobs": 1, "temperature": 0, "seed": 1, **more}
        return client.completions.create(model=model, **options)

    scores = ask(max_tokens=0).choices[0].logprobs
    assert scores.token_logprobs[0] is None and sum(scores.token_logprobs[1:]) < 0
    assert all(top is None or len(top) == 1 for top in scores.top_logprobs)
    with_answer = ask(max_tokens=1).choices[0]
    assert with_answer.text.startswith("One, two, three, four")
    assert with_answer.logprobs.token_logprobs[:-1] == scores.token_logprobs
    streamed = [chunk.choices[0].logprobs for chunk in ask(max_tokens=1, stream=True)]
    assert [value for piece in streamed if piece for value in piece.token_logprobs] == with_answer.logprobs.token_logprobs


def test_logprobs(client, model):
    answer = ask(client, model, temperature=0, logprobs=True, top_logprobs=3)
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens
    for token in tokens:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3
        assert max(t.logprob for t in token.top_logprobs) == token.top_logprobs[0].logprob
    text = b"".join(bytes(token.bytes) for token in tokens).decode(errors="replace")
    assert text.startswith(answer.choices[0].message.content[:10])


def test_several_choices(client, model):
    answer = ask(client, model, temperature=1.5, seed=3, n=2)
    assert [choice.index for choice in answer.choices] == [0, 1]


def test_completions(client, model):
    answer = client.completions.create(model=model, prompt="One, two, three,", max_tokens=6, temperature=0, seed=1, logprobs=2)
    assert answer.object == "text_completion"
    assert answer.choices[0].text
    assert len(answer.choices[0].logprobs.tokens) == answer.usage.completion_tokens
    chunks = client.completions.create(model=model, prompt="One, two, three,", max_tokens=6, temperature=0, seed=1, stream=True)
    assert "".join(c.choices[0].text for c in chunks) == answer.choices[0].text


def test_completions_of_several_prompts(client, model):
    prompts = ["One, two, three,", "A, b, c,"]
    settings = dict(model=model, max_tokens=6, temperature=0, seed=1)
    alone = [client.completions.create(prompt=prompt, **settings).choices[0].text for prompt in prompts]
    answer = client.completions.create(prompt=prompts, **settings)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert [choice.text for choice in answer.choices] == alone
    texts = ["", ""]
    for chunk in client.completions.create(prompt=prompts, stream=True, **settings):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == alone


def test_two_sessions_at_once_do_not_mix(client, model):
    def question(i):
        return [{"role": "user", "content": f"Say the number {i} and nothing else."}]

    def text(i):
        chunks = client.chat.completions.create(
            model=model, messages=question(i), max_tokens=12, temperature=0, seed=1, stream=True,
            extra_body={"session_id": f"session-{i}"},
        )  # fmt: skip
        return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)

    alone = [text(i) for i in range(2)]
    together = [None, None]

    def run(i):
        together[i] = text(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_a_conversation_finds_its_prefix_in_the_cache(client, model):
    messages = [{"role": "user", "content": "Tell me a long story about a harbour. " * 12}]
    first = client.chat.completions.create(model=model, messages=messages, max_tokens=8, temperature=0)
    messages += [{"role": "assistant", "content": first.choices[0].message.content}, {"role": "user", "content": "Go on."}]
    second = client.chat.completions.create(model=model, messages=messages, max_tokens=8, temperature=0)
    assert second.usage.prompt_tokens_details.cached_tokens >= 64


def test_leaving_a_stream_cancels_it(client, model, cluster):
    with client.chat.completions.create(
        model=model, messages=QUESTION, max_tokens=1500, stream=True, extra_body={"ignore_eos": True}
    ) as stream:
        for _ in zip(range(3), stream):
            pass
    for worker in cluster.workers.values():
        until(lambda: cluster.metric(worker, "vllm:num_requests_running") == 0)
    assert ask(client, model).choices


def test_errors_are_the_sdks_own(client, model):
    with pytest.raises(openai.BadRequestError) as error:
        ask(client, model, temperature=7)
    assert error.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        ask(client, "gpt-9")
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model=model, messages=[])


def test_embeddings(client, model):
    texts = ["a ship", "the berth", "a ship"] + [f"crane {i}" for i in range(40)]
    answer = client.embeddings.create(model=model, input=texts)  # base64 on the wire
    floats = client.embeddings.create(model=model, input=texts, encoding_format="float")
    assert [e.index for e in answer.data] == list(range(43))
    for coded, plain in zip(answer.data, floats.data):
        assert coded.embedding == pytest.approx(plain.embedding, abs=1e-6)
        assert sum(x * x for x in plain.embedding) == pytest.approx(1, abs=1e-4)
    assert answer.data[0].embedding == pytest.approx(answer.data[2].embedding, abs=1e-6)
    assert answer.data[0].embedding != pytest.approx(answer.data[1].embedding, abs=1e-3)
    assert answer.model == model
    assert answer.usage.prompt_tokens == answer.usage.total_tokens >= 43


def test_embeddings_of_token_ids_equal_those_of_their_text(sim_client):
    ids = [2 + byte for byte in b"a ship"]
    texts = sim_client.embeddings.create(model="sim", input="a ship")
    for form in (ids, [ids]):
        assert sim_client.embeddings.create(model="sim", input=form).data[0].embedding == texts.data[0].embedding
    with pytest.raises(openai.BadRequestError, match="dimensions"):
        sim_client.embeddings.create(model="sim", input="x", dimensions=8)


async def gathered_text(client, **settings):
    stream = await client.chat.completions.create(model="sim", max_tokens=24, stream=True, **settings)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


def test_asynchronous_calls_run_side_by_side(sim):
    async def run():
        async with openai.AsyncOpenAI(base_url=sim.url + "/v1", api_key="none", max_retries=0, timeout=60) as client:
            texts = [f"answer {number}" for number in range(16)]
            questions = [[{"role": "user", "content": says(text)}] for text in texts]
            assert await asyncio.gather(*(gathered_text(client, messages=question) for question in questions)) == texts
            whole, response, embedding, models = await asyncio.gather(
                client.completions.create(model="sim", prompt=says("text"), max_tokens=24),
                client.responses.create(model="sim", input=says("response")),
                client.embeddings.create(model="sim", input="x"),
                client.models.list(),
            )
            assert (whole.choices[0].text, response.output_text) == ("text", "response")
            assert embedding.data[0].embedding and [model.id for model in models.data] == ["sim"]
            with pytest.raises(openai.BadRequestError, match="temperature"):
                await gathered_text(client, messages=QUESTION, temperature=7)

    asyncio.run(run())


LONG = dict(model="sim", messages=QUESTION, max_tokens=4000, extra_body={"ignore_eos": True})


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_cancelled_task_cancels_its_request(sim, stream):
    async def run():
        async with openai.AsyncOpenAI(base_url=sim.url + "/v1", api_key="none", max_retries=0) as client:
            if stream:
                answer = await client.chat.completions.create(stream=True, **LONG)
                await anext(aiter(answer))
                await answer.close()
            else:
                task = asyncio.create_task(client.chat.completions.create(**LONG))
                await asyncio.to_thread(until, lambda: sim.running() == 1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await asyncio.to_thread(until, lambda: sim.running() == 0)

    asyncio.run(run())


def test_a_timeout_of_the_sdk_cancels_its_request(sim, sim_client):
    with pytest.raises(openai.APITimeoutError):
        sim_client.with_options(timeout=0.2).chat.completions.create(**LONG)
    until(lambda: sim.running() == 0)


def test_a_wrong_key_is_the_sdks_error(guarded):
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=guarded.url + "/v1", api_key="wrong", max_retries=0).models.list()


def test_the_raw_answer_names_request_and_worker(sim, sim_client):
    raw = sim_client.chat.completions.with_raw_response.create(model="sim", messages=QUESTION, max_tokens=2)
    assert raw.headers["X-Worker-Hint"].split("/")[0] in sim.workers
    assert raw.headers["X-Request-Id"] in raw.parse().id
