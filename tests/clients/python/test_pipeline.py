"""pipeline() against a gateway with the simulated engine."""

import asyncio
import collections
import concurrent.futures
import dataclasses
import os
import signal
import subprocess
import sys
import threading

import berth
import pytest
from berth.v1 import generation_pb2 as v1
from conftest import ROOT, address_of
from processes import free_port, until

CONFIG = berth.GenerationConfig(max_new_tokens=12, random_seed=7, ignore_eos=True)
LONG = berth.GenerationConfig(max_new_tokens=1500, random_seed=7, ignore_eos=True)
QUESTIONS = ["What is a berth?", "Who rings the bell?", "Where does the tide go?"]


def test_one_prompt_is_one_response_and_a_list_is_a_list_in_its_order(pipe):
    alone = [pipe(question, CONFIG) for question in QUESTIONS]
    together = pipe(QUESTIONS, gen_config=CONFIG)
    assert [answer.text for answer in together] == [answer.text for answer in alone]
    assert [answer.index for answer in together] == [0, 1, 2]
    assert pipe([]) == []
    first = together[0]
    assert first.text and first.finish_reason == "length"
    assert first.generate_token_len == len(first.token_ids) == 12
    assert first.input_token_len > 0 and first.logprobs is None


def test_messages_are_a_prompt_and_lists_of_messages_are_prompts(pipe):
    messages = [{"role": "user", "content": QUESTIONS[0]}]
    parts = [{"role": "user", "content": [{"type": "text", "text": QUESTIONS[0]}]}]
    want = pipe(QUESTIONS[0], CONFIG).text
    assert pipe(messages, CONFIG).text == want
    assert [answer.text for answer in pipe([messages, parts], CONFIG)] == [want, want]
    assert pipe(QUESTIONS[0], CONFIG, do_preprocess=False).text != want


def test_a_config_for_each_prompt(pipe):
    configs = [berth.GenerationConfig(max_new_tokens=n, random_seed=1, ignore_eos=True) for n in (2, 5)]
    assert [answer.generate_token_len for answer in pipe(["a", "b"], configs)] == [2, 5]
    with pytest.raises(berth.InvalidRequestError, match="has 2 entries for 1 prompts"):
        pipe(["a"], configs)


def test_a_stream_is_the_answer_in_pieces(pipe):
    want = pipe(QUESTIONS, CONFIG)
    texts, ids, reasons = [""] * 3, [[], [], []], [[], [], []]
    for piece in pipe.stream_infer(QUESTIONS, CONFIG):
        texts[piece.index] += piece.text
        ids[piece.index] += piece.token_ids
        assert piece.generate_token_len == len(ids[piece.index])
        reasons[piece.index].append(piece.finish_reason)
    assert texts == [answer.text for answer in want]
    assert ids == [answer.token_ids for answer in want]
    for each in reasons:
        assert each[-1] == "length" and set(each[:-1]) == {None}


def test_stop_words_and_logprobs(pipe):
    whole = pipe(QUESTIONS[0], CONFIG).text
    stopped = pipe(
        QUESTIONS[0], berth.GenerationConfig(max_new_tokens=12, random_seed=7, ignore_eos=True, stop_words=[whole[3:6]])
    )
    assert stopped.text == whole[: whole.index(whole[3:6])] and stopped.finish_reason == "stop"
    config = berth.GenerationConfig(max_new_tokens=4, random_seed=7, ignore_eos=True, logprobs=2)
    answer = pipe(QUESTIONS[0], config)
    assert len(answer.logprobs) == 4
    assert all(token in row and max(row.values()) <= 0 for token, row in zip(answer.token_ids, answer.logprobs))
    streamed = [row for piece in pipe.stream_infer(QUESTIONS[0], config) for row in piece.logprobs or []]
    assert streamed == answer.logprobs


def test_a_prompt_is_scored(pipe):
    config = berth.GenerationConfig(max_new_tokens=0, logprobs=1, prompt_logprobs=True, random_seed=7)
    answer = pipe(QUESTIONS[0], config)
    assert (answer.text, answer.finish_reason) == ("", "length")
    first, *rest = answer.prompt_logprobs
    assert first is None and len(rest) == answer.input_token_len - 1
    assert all(row and max(row.values()) <= 0 for row in rest)
    streamed = [row for piece in pipe.stream_infer(QUESTIONS[0], config) for row in piece.prompt_logprobs or []]
    assert streamed == answer.prompt_logprobs
    assert pipe(QUESTIONS[0], berth.GenerationConfig(max_new_tokens=1)).prompt_logprobs is None


def test_several_answers_for_each_prompt(pipe):
    config = dataclasses.replace(CONFIG, n=3, temperature=1.0)
    answers = pipe(QUESTIONS[:2], config)
    assert [(answer.index, answer.choice) for answer in answers] == [(i, choice) for i in range(2) for choice in range(3)]
    assert len({answer.text for answer in answers}) > 3, "all choices are alike"
    assert {answer.generate_token_len for answer in answers} == {CONFIG.max_new_tokens}
    assert [answer.text for answer in pipe(QUESTIONS[0], config)] == [answer.text for answer in answers[:3]]
    streamed = collections.defaultdict(str)
    for piece in pipe.stream_infer(QUESTIONS[:2], config):
        streamed[piece.index, piece.choice] += piece.text
    assert streamed == {(answer.index, answer.choice): answer.text for answer in answers}
    with pytest.raises(berth.InvalidRequestError, match="choice_count"):
        pipe.chat("x", gen_config=config)


def test_leaving_a_stream_cancels_it(pipe, sim):
    for _ in zip(range(3), pipe.stream_infer(QUESTIONS, LONG)):
        pass
    until(lambda: sim.running() == 0)


PROGRAM = """
import gc, sys, types
import berth
pipe = berth.pipeline(sys.argv[1])
pieces = pipe.stream_infer("x", berth.GenerationConfig(max_new_tokens=1500, ignore_eos=True))
next(pieces)
if sys.argv[2] == "raise":
    for piece in pieces:
        raise KeyError("a fault of the program's own")
if sys.argv[2] == "collect":
    cycle = types.SimpleNamespace(pieces=pieces)
    cycle.itself = cycle
    del cycle, pieces
    async def collect():
        gc.collect()  # in the thread of the package's event loop
    pipe.run(collect())
    print(pipe("x", berth.GenerationConfig(max_new_tokens=2, ignore_eos=True)).generate_token_len)
print("done")
"""


@pytest.mark.parametrize("ending, said", [("return", "done\n"), ("raise", ""), ("collect", "2\ndone\n")])
def test_a_stream_that_is_left_unfinished_holds_nothing_up(slow_address, ending, said):
    command = [sys.executable, "-c", PROGRAM, slow_address, ending]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == said, done.stderr
    complaints = done.stderr.partition("Traceback")[0] if ending == "raise" else done.stderr
    assert complaints == ""


def test_a_session_remembers_rewinds_and_branches(pipe):
    with pipe.session() as session:
        pipe.chat("My name is Ada.", session, CONFIG)
        first, position = session.response, session.position
        assert first.session_id == session.session_id and position >= 12
        second = pipe.chat("What is my name?", session, CONFIG).response.text
        assert [question for question, _ in session.history] == ["My name is Ada.", "What is my name?"]
        assert session.history[1][1] == second
        branch = session.fork(position)
        again = pipe.chat("What is my name?", session, CONFIG, position=position).response.text
        assert again == second
        assert pipe.chat("What is my name?", branch, CONFIG).response.text == second
        branch.close()
        assert pipe.chat("What is my name?", gen_config=CONFIG).response.text != second  # another session knows nothing
        with pytest.raises(berth.InvalidRequestError, match="position"):
            pipe.chat("x", session, CONFIG, position=10_000)
    assert session.history == [] and not session.is_open
    with pytest.raises(berth.SessionError):
        pipe.run(pipe.client.get_session(session.session_id))
    assert pipe.chat("My name is Ada.", session, CONFIG).response.text == first.text  # closed: it begins anew
    pipe.run(pipe.client.close_session(session.session_id))  # behind its back
    with pytest.raises(berth.SessionError) as error:
        pipe.chat("And?", session, CONFIG)
    assert error.value.reason == "SESSION_NOT_FOUND"
    assert pipe.chat("My name is Ada.", session, CONFIG).response.text == first.text
    session.close()


def test_a_turn_is_cancelled_and_keeps_what_was_said(slow_address):
    with berth.pipeline(slow_address) as pipe, pipe.session() as session:
        pieces = pipe.chat("Tell me everything.", session, LONG, stream_response=True)
        next(pieces)
        assert session.cancel()
        assert [piece.finish_reason for piece in pieces][-1] == "abort"
        assert 0 < session.response.generate_token_len < 1500
        assert session.position == session.response.input_token_len + session.response.generate_token_len
        assert not session.cancel()
        assert pipe.chat("Go on.", session, CONFIG).response.text
        pieces = pipe.chat("Tell me more.", session, LONG, stream_response=True)
        next(pieces)
        pieces.close()
        until(lambda: not pipe.run(pipe.client.get_session(session.session_id)).busy)


def test_asyncio_answers_many_at_once_as_one_at_a_time(address):
    questions = [f"Question {i}?" for i in range(60)]

    async def ask():
        async with berth.AsyncPipeline(address) as pipe:
            together = await asyncio.gather(*[pipe(question, CONFIG) for question in questions])
            streamed = [""] * len(questions)
            async for piece in pipe.stream_infer(questions, CONFIG):
                streamed[piece.index] += piece.text
            return (
                [answer.text for answer in together],
                streamed,
                [(await pipe(q, CONFIG)).text for q in questions[:10]],
            )

    together, streamed, alone = asyncio.run(ask())
    assert together == streamed
    assert together[:10] == alone
    assert len(set(together)) > 50


def test_a_cancelled_task_cancels_its_request(address, sim):
    async def ask():
        async with berth.AsyncPipeline(address) as pipe:
            task = asyncio.create_task(pipe(QUESTIONS[0], LONG))
            while sim.running() == 0:
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await pipe(QUESTIONS[0], CONFIG)).text

    asyncio.run(ask())
    until(lambda: sim.running() == 0)


def test_threads_share_a_pipeline(pipe):
    want, got = pipe(QUESTIONS, CONFIG), [None] * 3

    def ask(i):
        got[i] = pipe(QUESTIONS[i], CONFIG).text

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [answer.text for answer in want]


@pytest.mark.parametrize("fields, field, words", [
    ({"temperature": 9.0}, "sampling.temperature", "is 9, want 0 … 2"),
    ({"top_p": 0.0}, "sampling.top_p", "is 0"),
    ({"max_new_tokens": 0}, "stop.max_tokens", "is 0"),
    ({"logprobs": 50}, "output.top_logprobs", "is 50"),
    ({"prompt_logprobs": True}, "output.prompt_logprobs", "needs top_logprobs"),
    ({"max_new_tokens": "many"}, "max_new_tokens", "is 'many'"),
    ({"random_seed": -1}, "random_seed", "is -1"),
    ({"stop_words": "end"}, "stop_words", "want a list"),
    ({"stop_token_ids": ["end"]}, "stop_token_ids", "is ['end']"),
    ({"logit_bias": {"a": 1}}, "logit_bias", "('a', 1)"),
    ({"n": "two"}, "n", "is 'two'"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "'xml'"),
])  # fmt: skip
def test_a_bad_value_is_named(pipe, fields, field, words):
    with pytest.raises(berth.InvalidRequestError) as error:
        pipe("x", berth.GenerationConfig(**fields))
    assert error.value.code == "INVALID_ARGUMENT" and error.value.field == field
    assert words in str(error.value)
    assert isinstance(error.value, ValueError)


def test_bad_prompts_and_models_are_named(pipe, address):
    with pytest.raises(berth.InvalidRequestError, match="prompt.*empty"):
        pipe("", do_preprocess=False)
    for prompt in (5, {"role": "user"}, [3]):
        with pytest.raises(berth.InvalidRequestError, match="want a string"):
            pipe(prompt)
    for prompt in (("describe", "cat.png"), [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]):
        with pytest.raises(berth.UnsupportedError, match="is not supported"):
            pipe(prompt)
    with berth.pipeline(address, berth.EngineConfig(model_name="other")) as other:
        with pytest.raises(berth.NotFoundError, match="other") as error:
            other("x")
        assert error.value.reason == "MODEL_NOT_FOUND"
    for model, words in [
        ("./no-such", "neither a file"),
        ("internlm/internlm-chat-20b-4bit", "4-bit"),
        ("x", "neither a file"),
    ]:
        with pytest.raises(berth.BerthError, match=words):
            berth.pipeline(model)


def test_a_deadline_ends_a_call(pipe, sim):
    with pytest.raises(berth.DeadlineError) as error:
        pipe(QUESTIONS[0], LONG, timeout=0.2)
    assert isinstance(error.value, TimeoutError)
    with pytest.raises(berth.DeadlineError):
        list(pipe.stream_infer(QUESTIONS[0], LONG, timeout=0.2))
    until(lambda: sim.running() == 0)


def test_a_full_server_is_asked_again_when_it_says(start_cluster):
    cluster = start_cluster(workers=1, gateway_arguments=("--max-streams", 2, "--max-waiting", 0))
    with berth.pipeline(address_of(cluster)) as pipe:
        answers = pipe(QUESTIONS, CONFIG)
        assert all(answer.generate_token_len == 12 for answer in answers)
    refused = cluster.metric(cluster.gateway, "grpc_server_handled_total", grpc_code="RESOURCE_EXHAUSTED")
    assert refused >= 1


def test_a_stream_goes_on_when_its_gateway_comes_back(start_cluster):
    port = free_port()
    cluster = start_cluster(worker_arguments=("--sim", "--sim-step-ms", "20"))
    gateway = cluster.start_gateway("first", cluster.addresses(), grpc_port=port)
    config = berth.GenerationConfig(max_new_tokens=60, random_seed=7, ignore_eos=True, n=2, temperature=1.0)
    with berth.pipeline(f"127.0.0.1:{port}") as pipe:
        want = pipe(QUESTIONS[0], config)
        pieces = pipe.stream_infer(QUESTIONS[0], config)
        got = [next(pieces)]
        gateway.kill()
        cluster.start_gateway("again", cluster.addresses(), grpc_port=port)
        got += pieces
        for answer in want:
            pieces = [piece for piece in got if piece.choice == answer.choice]
            assert "".join(piece.text for piece in pieces) == answer.text
            assert [token for piece in pieces for token in piece.token_ids] == answer.token_ids


def test_answers_survive_their_gateway(start_cluster):
    port = free_port()
    cluster = start_cluster(worker_arguments=("--sim", "--sim-step-ms", "50"), workers=1)
    gateway = cluster.start_gateway("first", cluster.addresses(), grpc_port=port)
    config = dataclasses.replace(CONFIG, max_new_tokens=30, n=2, temperature=1.0, logprobs=1, prompt_logprobs=True)
    with berth.pipeline(f"127.0.0.1:{port}") as pipe:
        want = pipe(QUESTIONS, config)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            answers = pool.submit(pipe, QUESTIONS, config)
            until(lambda: cluster.running() == 2 * len(QUESTIONS))
            gateway.kill()
            cluster.start_gateway("again", cluster.addresses(), grpc_port=port)
            got = answers.result()
    assert got == want


def test_a_frozen_gateway_is_left_for_another(start_cluster, monkeypatch):
    limits = {"grpc.keepalive_time_ms": 30000, "grpc.keepalive_timeout_ms": 10000, "grpc.http2.ping_timeout_ms": 10000}
    options = dict(berth.client._CHANNEL_OPTIONS)
    assert {name: options[name] for name in limits} == limits
    monkeypatch.setattr(berth.client, "_CHANNEL_OPTIONS", [*(options | dict.fromkeys(limits, 500)).items()])
    cluster = start_cluster(worker_arguments=("--sim", "--sim-step-ms", "20"), workers=1)
    frozen = cluster.start_gateway("frozen", cluster.addresses())
    with berth.pipeline(f"ipv4:127.0.0.1:{frozen.ready['grpc_port']},{address_of(cluster)}") as pipe:
        pieces = pipe.stream_infer(QUESTIONS[0], dataclasses.replace(CONFIG, max_new_tokens=60))
        got = [next(pieces)]
        frozen.child.send_signal(signal.SIGSTOP)
        try:
            got += pieces
        finally:
            frozen.child.send_signal(signal.SIGCONT)
    assert sum(len(piece.token_ids) for piece in got) == 60


def test_a_server_that_is_gone_is_an_error(start_cluster):
    cluster = start_cluster()
    with berth.pipeline(address_of(cluster), timeout=1) as pipe:
        assert pipe("x", CONFIG).text
        cluster.stop()
        with pytest.raises(berth.UnavailableError) as error:
            pipe("x", CONFIG)
        assert isinstance(error.value, ConnectionError)


def test_keys_and_certificates(start_cluster, tmp_path):
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "certificate.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    flags = ("--ssl-certfile", certificate, "--ssl-keyfile", key, "--api-keys", "open sesame")
    address = address_of(start_cluster(workers=1, gateway_arguments=flags))
    with berth.pipeline(address, ca_certificates=certificate, api_key="open sesame") as pipe:
        assert pipe("x", CONFIG).generate_token_len == 12
    with berth.pipeline(address, ca_certificates=certificate, api_key="open barley") as pipe:
        with pytest.raises(berth.AccessError) as error:
            pipe("x", CONFIG)
        assert error.value.code == "UNAUTHENTICATED"
    with berth.pipeline(address, timeout=1) as pipe, pytest.raises(berth.UnavailableError):
        pipe("x", CONFIG)
    with pytest.raises(FileNotFoundError, match="nowhere.pem"):
        berth.pipeline(address, ca_certificates="nowhere.pem")


@pytest.mark.parametrize(
    "wanted, kind, value",
    [
        ({"type": "json_object"}, "json_object", True),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "string"}}},
            "json_schema",
            '{"type": "string"}',
        ),
        ({"type": "json_schema", "json_schema": {"type": "string"}}, "json_schema", '{"type": "string"}'),
        ({"type": "regex_schema", "regex_schema": "[ab]+"}, "regex", "[ab]+"),
        ({"type": "text"}, None, None),
    ],
)
def test_response_formats_become_constraints(wanted, kind, value):
    spec = v1.GenerationSpec()
    berth.GenerationConfig(response_format=wanted).fill(spec)
    assert spec.constraint.WhichOneof("kind") == kind
    assert kind is None or getattr(spec.constraint, kind) == value


def test_types_are_strict():
    config = os.path.join(ROOT, "clients", "python", "pyproject.toml")
    command = [sys.executable, "-m", "mypy", "--config-file", config, "-p", "berth", "--cache-dir", os.devnull]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
