"""LMDeploy's endpoints, tokens, and what describes the API: plain HTTP against the simulated engine."""
import http.client
import json

import pytest
from conftest import says
from processes import events, until

INTERACTIVE = "/v1/chat/interactive"


def post(cluster, path, body):
    status, _, answer = cluster.post(path, body)
    assert status == 200, answer
    return answer


def get(cluster, path):
    connection = cluster.connect()
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def name_of(cluster):
    """Of the model that it serves."""
    return json.loads(get(cluster, "/v1/models")[1])["data"][0]["id"]


def test_turns_of_a_session_that_the_server_keeps(sim):
    def turn(text, **more):
        return post(sim, INTERACTIVE, {"prompt": says(text), "session_id": 71, "interactive_mode": True, **more})

    first = turn("One.")
    assert first == {"text": "One.", "tokens": 5, "input_tokens": first["input_tokens"], "history_tokens": 0, "finish_reason": "stop"}
    second = turn("Two.")
    assert second["text"] == "Two."
    assert second["input_tokens"] == first["input_tokens"]
    assert second["history_tokens"] == first["input_tokens"] + first["tokens"]
    end = post(sim, INTERACTIVE, {"prompt": "", "session_id": 71, "request_output_len": 0, "interactive_mode": False})
    assert (end["text"], end["tokens"]) == ("", 0)
    assert turn("One.")["input_tokens"] == first["input_tokens"]


def test_a_turn_alone(sim):
    one = post(sim, INTERACTIVE, {"prompt": says("Hi."), "session_id": 72})
    assert one["text"] == "Hi."
    assert post(sim, INTERACTIVE, {"prompt": says("Hi."), "session_id": 72})["input_tokens"] == one["input_tokens"]
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": says("c")}]
    assert post(sim, INTERACTIVE, {"prompt": messages})["text"] == "c"


def test_a_turn_as_lines(sim):
    connection = sim.connect()
    body = {"prompt": says("Hello there."), "session_id": 73, "stream": True, "request_output_len": 5, "interactive_mode": True}
    connection.request("POST", INTERACTIVE, json.dumps(body))
    lines = [json.loads(line) for line in connection.getresponse()]
    assert "".join(line["text"] for line in lines) == "Hello"
    assert [line["finish_reason"] for line in lines] == [None] * (len(lines) - 1) + ["length"]
    assert lines[-1]["tokens"] == 5
    connection.close()


@pytest.mark.parametrize("more", [{}, {"request_output_len": 0, "interactive_mode": True}])
def test_a_turn_is_cancelled_by_its_session(sim, more):
    connection = sim.connect()
    body = {"prompt": "go on", "session_id": 74, "stream": True, "request_output_len": 4000, "ignore_eos": True, "interactive_mode": True}
    connection.request("POST", INTERACTIVE, json.dumps(body))
    response = connection.getresponse()
    json.loads(response.readline())
    assert post(sim, INTERACTIVE, {"prompt": "", "session_id": 74, "cancel": True} | more)["tokens"] == 0
    last = [json.loads(line) for line in response][-1]
    assert last["finish_reason"] == "abort"
    connection.close()
    for worker in sim.workers.values():
        until(lambda: sim.metric(worker, "vllm:num_requests_running") == 0)


def test_a_fork_goes_its_own_way_from_the_same_history(sim):
    def turn(session, text):
        return post(sim, INTERACTIVE, {"prompt": says(text), "session_id": session, "interactive_mode": True})

    first = turn("tree", "One.")
    branch = post(sim, "/v1/sessions/fork", {"session_id": "tree"})
    assert branch["session_id"].startswith("tree~")
    assert branch["position"] == first["input_tokens"] + first["tokens"]
    assert turn("tree", "A longer answer.")["history_tokens"] == branch["position"]
    assert turn(branch["session_id"], "Two.")["history_tokens"] == branch["position"]


def test_a_branch_of_a_conversation_that_its_caller_keeps_goes_to_the_same_worker(sim):
    def worker(session):
        return sim.post("/v1/completions", {"model": "sim", "prompt": "x", "max_tokens": 1, "session_id": session})[1]["X-Worker-Hint"]

    for parent in ("leaf-1", "leaf-2", "leaf-3", "leaf-4"):
        branches = [post(sim, "/v1/sessions/fork", {"session_id": parent}) for _ in range(2)]
        assert [branch["position"] for branch in branches] == [0, 0]
        child = post(sim, "/v1/sessions/fork", {"session_id": branches[0]["session_id"]})
        names = [branch["session_id"] for branch in (*branches, child)]
        assert len(set(names)) == 3 and all(name.startswith(parent + "~") for name in names)
        assert {worker(name) for name in names} == {worker(parent)}


def test_generate_takes_and_gives_token_ids(sim):
    ids = post(sim, "/v1/encode", {"input": says("Hello.")})["input_ids"]
    by_ids = post(sim, "/generate", {"input_ids": ids, "max_tokens": 50, "return_logprob": True})
    assert by_ids["text"] == "Hello."
    assert by_ids["output_ids"][:-1] == ids[1:-1]
    assert by_ids["meta_info"]["finish_reason"] == {"type": "stop"}
    assert by_ids["meta_info"]["prompt_tokens"] == len(ids)
    assert [entry[1] for entry in by_ids["meta_info"]["output_token_logprobs"]] == by_ids["output_ids"]
    assert post(sim, "/generate", {"prompt": says("Hello.")})["text"] == "Hello."
    connection = sim.connect()
    connection.request("POST", "/generate", json.dumps({"input_ids": ids, "stream": True}))
    lines = [line[6:] for line in connection.getresponse() if line.startswith(b"data: ")]
    assert lines.pop().strip() == b"[DONE]"
    assert sum((json.loads(line)["output_ids"] for line in lines), []) == by_ids["output_ids"]
    connection.close()


def test_tokens_of_text_and_back(sim):
    one = post(sim, "/v1/encode", {"input": "häfen"})
    assert one["length"] == len(one["input_ids"]) == 6
    assert post(sim, "/v1/encode", {"input": ["häfen", "x"]}) == {"input_ids": [one["input_ids"], [2 + ord("x")]], "length": [6, 1]}
    assert post(sim, "/v1/encode", {"input": "x", "do_preprocess": True})["length"] > 1
    assert post(sim, "/v1/tokenize", {"prompt": "häfen"}) == {"tokens": one["input_ids"], "count": 6}
    chat = post(sim, "/v1/tokenize", {"model": "sim", "messages": [{"role": "user", "content": "x"}], "add_generation_prompt": False})
    assert post(sim, "/v1/detokenize", {"tokens": chat["tokens"], "skip_special_tokens": False}) == {"prompt": "<msg>user\nx<eos>"}


@pytest.mark.parametrize(
    "path, body, code, field",
    [
        (INTERACTIVE, {"prompt": "x", "interactive_mode": True}, 400, "session_id"),
        (INTERACTIVE, {"session_id": 1}, 400, "prompt"),
        (INTERACTIVE, {"prompt": "x", "image_url": "y"}, 400, "image_url"),
        ("/generate", {}, 400, "prompt"),
        ("/generate", {"prompt": "x", "input_ids": [1]}, 400, "prompt"),
        ("/generate", {"input_ids": []}, 400, "input_ids"),
        ("/generate", {"input_ids": [99999]}, 400, "input_ids"),
        ("/generate", {"input_ids": ["x"]}, 400, "input_ids[0]"),
        ("/v1/sessions/fork", {}, 400, "session_id"),
        ("/v1/sessions/fork", {"session_id": "a", "position": "x"}, 400, "position"),
        ("/v1/encode", {}, 400, "input"),
        ("/v1/encode", {"input": ["x"] * 129}, 400, "input"),
        ("/v1/encode", {"input": "x", "add_bos": False}, 400, "add_bos"),
        ("/v1/tokenize", {"prompt": "x", "messages": []}, 400, "prompt"),
        ("/v1/tokenize", {"model": "gpt-9", "prompt": "x"}, 404, "gpt-9"),
        ("/v1/detokenize", {"tokens": "x"}, 400, "tokens"),
        ("/v1/embeddings", {"model": "sim"}, 400, "input"),
        ("/v1/embeddings", {"model": "sim", "input": []}, 400, "input"),
        ("/v1/embeddings", {"model": "sim", "input": ["x", ""]}, 400, "input"),
        ("/v1/embeddings", {"model": "sim", "input": ["x", 1]}, 400, "input[1]"),
        ("/v1/embeddings", {"model": "sim", "input": ["x"] * 2049}, 400, "2049"),
        ("/v1/embeddings", {"model": "sim", "input": [99999]}, 400, "99999"),
        ("/v1/embeddings", {"model": "sim", "input": "x", "dimensions": 8}, 400, "dimensions"),
        ("/v1/embeddings", {"model": "sim", "input": "x", "encoding_format": "int8"}, 400, "encoding_format"),
        ("/v1/completions", {"model": "sim", "prompt": "x", "suffix": "y"}, 400, "suffix"),
        ("/v1/completions", {"model": "sim", "prompt": [1], "suffix": "y"}, 400, "suffix"),
    ],
)
def test_bad_input_is_one_clear_error(sim, path, body, code, field):
    status, _, answer = sim.post(path, body)
    assert status == code, answer
    assert field in (answer["error"]["param"] or "") or field in answer["error"]["message"]


def test_the_description_names_every_endpoint(sim):
    response, body = get(sim, "/openapi.json")
    paths = json.loads(body)["paths"]
    assert response.headers["Content-Type"] == "application/json"
    for path, operations in paths.items():
        for method in operations:
            if method == "post":
                status, _, answer = sim.post(path, {})
                assert status == 400, (path, status, answer)
            else:
                assert get(sim, path.replace("{model}", "sim"))[0].status == 200, path


def test_the_page_reads_without_scripts(sim):
    response, body = get(sim, "/docs")
    assert response.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert b"POST /v1/chat/completions" in body and b"<script" not in body and b"http://" not in body


def test_browsers_of_other_origins(sim, guarded):
    def preflight(cluster, origin):
        connection = cluster.connect()
        connection.request("OPTIONS", "/v1/models", headers={
            "Origin": origin, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"})  # fmt: skip
        response = connection.getresponse()
        response.read()
        connection.close()
        return response

    answer = preflight(sim, "https://a.example")
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization"
    assert preflight(guarded, "https://a.example").headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert preflight(guarded, "https://b.example").headers["Access-Control-Allow-Origin"] is None
    assert get(sim, "/v1/models")[0].headers["Access-Control-Allow-Origin"] is None


def test_a_silent_stream_says_that_it_lives(guarded):
    connection = guarded.connect()
    body = {"model": "sim", "messages": [{"role": "user", "content": "x"}], "max_tokens": 3, "ignore_eos": True, "stream": True}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Authorization": "Bearer secret"})
    text = connection.getresponse().read().decode()
    assert ": alive\n\n" in text
    assert text.endswith("data: [DONE]\n\n")
    for line in text.split("\n"):
        assert line == "" or line.startswith((": alive", "data: "))
    connection.close()


def test_leaving_embeddings_cancels_them(guarded):
    def running():
        return guarded.metric(guarded.workers["w0"], "vllm:num_requests_running")

    connection = guarded.connect()
    inputs = ["x" * 4000] * 40  # two rpcs, of minutes
    connection.request("POST", "/v1/embeddings", json.dumps({"model": "sim", "input": inputs}), {"Authorization": "Bearer secret"})
    until(lambda: running() > 0)
    connection.close()
    until(lambda: running() == 0)


@pytest.mark.parametrize(
    "path, body, ids",
    [
        ("/generate", {"prompt": "x", "max_tokens": 100}, lambda event: event["output_ids"]),
        (
            "/v1/chat/completions",
            {"model": "sim", "messages": [{"role": "user", "content": "x"}], "max_tokens": 100, "logprobs": True},
            lambda event: [entry for choice in event["choices"] if choice["logprobs"] for entry in choice["logprobs"]["content"]],
        ),
    ],
)
def test_a_dropped_stream_ends_with_the_step_after_the_one_in_flight(leisurely, path, body, ids):
    worker = leisurely.workers["w0"]
    before = leisurely.metric(worker, "vllm:generation_tokens_total")
    connection = leisurely.connect()
    connection.request("POST", path, json.dumps({**body, "ignore_eos": True, "stream": True}))
    seen = 0
    response = connection.getresponse()
    for event in events(response):
        seen += len(ids(event))
        if seen > 0:
            break
    response.close()
    connection.close()
    until(lambda: leisurely.running() == 0)
    assert leisurely.metric(worker, "vllm:generation_tokens_total") - before <= seen + 2


def test_fields_that_nobody_knows_are_named(sim):
    body = {"model": "sim", "prompt": "x", "max_tokens": 1, "wonder": 1, "a\r\nSet-Cookie: b": 2, "user": "u"}
    status, headers, _ = sim.post("/v1/completions", body)
    assert status == 200
    assert headers["Warning"] == '299 berth "ignored fields: wonder, a??Set-Cookie??b"'
    assert headers["Set-Cookie"] is None
    assert sim.post("/v1/completions", {"model": "sim", "prompt": "x", "max_tokens": 1})[1]["Warning"] is None


def streamed_texts(cluster, body):
    """Of each choice."""
    connection, response = cluster.open_stream(body)
    texts = {}
    for event in events(response):
        for choice in event["choices"]:
            texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
    connection.close()
    return [texts[index] for index in sorted(texts)]


@pytest.mark.parametrize("n", [1, 3])
def test_echo(cluster, n):
    ids = post(cluster, "/v1/tokenize", {"prompt": "one, two, three"})["tokens"]
    body = {"model": name_of(cluster), "prompt": ["one", ids, ids[:2]], "max_tokens": 2, "n": n, "seed": 1, "ignore_eos": True}
    prompts = ["one"] + [post(cluster, "/v1/detokenize", {"tokens": each})["prompt"] for each in body["prompt"][1:]]
    alone = post(cluster, "/v1/completions", body)["choices"]
    echoed = [c["text"] for c in post(cluster, "/v1/completions", {**body, "echo": True})["choices"]]
    assert echoed == [prompts[i // n] + c["text"] for i, c in enumerate(alone)]
    assert streamed_texts(cluster, {**body, "echo": True}) == echoed


def gathered(stream, count):
    """Text and log-probabilities of each choice."""
    texts, logprobs = [""] * count, [{} for _ in range(count)]
    for event in stream:
        for piece in event["choices"]:
            texts[piece["index"]] += piece["text"]
            for name, values in (piece["logprobs"] or {}).items():
                logprobs[piece["index"]].setdefault(name, []).extend(values)
    return list(zip(texts, logprobs))


@pytest.mark.parametrize("n", [1, 2])
def test_an_echo_with_logprobs_scores_the_prompt_like_the_same_text_as_an_answer(cluster, n):
    ids = post(cluster, "/v1/tokenize", {"prompt": "one, two, three"})["tokens"]
    body = {"model": name_of(cluster), "prompt": ids, "max_tokens": 90, "seed": 1, "ignore_eos": True, "temperature": 0, "logprobs": 2}
    answer = post(cluster, "/generate", {"input_ids": ids, "max_tokens": 90, "seed": 1, "ignore_eos": True, "temperature": 0})
    drawn = post(cluster, "/v1/completions", body)["choices"][0]["logprobs"]
    whole = ids + answer["output_ids"]
    scored = {**body, "prompt": [whole, ids, "one, two"], "echo": True, "max_tokens": 2, "n": n}
    choices = post(cluster, "/v1/completions", scored)["choices"]
    assert len(choices) == 3 * n
    for i, choice in enumerate(choices):
        logprobs = choice["logprobs"]
        assert logprobs["token_logprobs"][0] is None and logprobs["top_logprobs"][0] is None
        assert all(value <= 0 for value in logprobs["token_logprobs"][1:])
        assert logprobs["text_offset"][0] == 0 and logprobs["text_offset"] == sorted(logprobs["text_offset"])
        assert len({len(values) for values in logprobs.values()}) == 1
        if i < n:
            assert len(logprobs["tokens"]) == len(whole) + 2
            assert logprobs["tokens"][len(ids) : -2] == drawn["tokens"]
            assert logprobs["token_logprobs"][len(ids) : -2] == drawn["token_logprobs"]
            assert logprobs["top_logprobs"][len(ids) : -2] == drawn["top_logprobs"]
    connection, response = cluster.open_stream(scored)
    assert gathered(events(response), len(choices)) == [(choice["text"], choice["logprobs"]) for choice in choices]
    connection.close()


@pytest.mark.parametrize("pieces", [1, 20])
def test_a_scored_prompt_goes_on_when_its_worker_dies(doomed, pieces):
    """While the prompt is computed, and behind it."""
    prompt = [300 + i % 700 for i in range(4000)]
    body = {"model": "sim", "prompt": prompt, "max_tokens": 300, "echo": True, "logprobs": 1, "seed": 1, "ignore_eos": True}
    undisturbed = post(doomed, "/v1/completions", body)["choices"][0]
    connection, response = doomed.open_stream(body)

    def watched():
        for i, event in enumerate(events(response)):
            if i == pieces:
                doomed.workers[response.headers["X-Worker-Hint"].split("/")[0]].kill()
            yield event

    assert gathered(watched(), 1) == [(undisturbed["text"], undisturbed["logprobs"])]
    connection.close()
    assert doomed.metric(doomed.gateway, "berth_gateway_failovers_total", result="ok") == 1, "no stream was hit"


def test_a_prompt_is_scored_without_any_answer(cluster):
    ids = post(cluster, "/v1/tokenize", {"prompt": "one, two, three"})["tokens"]
    body = {"model": name_of(cluster), "echo": True, "logprobs": 0, "max_tokens": 0, "seed": 1, "temperature": 0}
    whole = post(cluster, "/v1/completions", {**body, "prompt": ids})
    assert whole["usage"]["completion_tokens"] == 0
    assert whole["choices"][0]["finish_reason"] == "length"
    assert whole["choices"][0]["text"] == post(cluster, "/v1/detokenize", {"tokens": ids})["prompt"]
    assert len(whole["choices"][0]["logprobs"]["token_logprobs"]) == len(ids)
    longer = post(cluster, "/v1/completions", {**body, "prompt": ids, "max_tokens": 1, "stop": [","]})["choices"][0]["logprobs"]
    assert longer["token_logprobs"][: len(ids)] == whole["choices"][0]["logprobs"]["token_logprobs"]
    one = post(cluster, "/v1/completions", {**body, "prompt": ids[:1]})["choices"][0]["logprobs"]
    assert (one["token_logprobs"], one["top_logprobs"], one["text_offset"]) == ([None], [None], [0])
    for wrong, param in [({"prompt": ""}, "prompt.text"), ({"echo": False}, "max_tokens"), ({"logprobs": None}, "max_tokens")]:
        status, _, answer = cluster.post("/v1/completions", {**body, "prompt": ids, **wrong})
        assert (status, answer["error"]["param"]) == (400, param)


def test_an_echo_shows_special_tokens_like_the_answer(demo):
    body = {"model": name_of(demo), "prompt": post(demo, "/v1/tokenize", {"prompt": "<|im_start|>hi"})["tokens"], "max_tokens": 1}
    for skip, prompt in [(True, "hi"), (False, "<|im_start|>hi")]:
        answer = post(demo, "/v1/completions", {**body, "echo": True, "skip_special_tokens": skip})
        assert answer["choices"][0]["text"].startswith(prompt)


@pytest.mark.parametrize("echo", [False, True])
def test_ids_outside_of_the_vocabulary_are_named(sim, echo):
    body = {"model": "sim", "prompt": [[1], [2, 99999]], "echo": echo}
    for stream in (False, True):
        status, _, answer = sim.post("/v1/completions", {**body, "stream": stream})
        assert (status, answer["error"]["param"]) == (400, "prompt")
        assert answer["error"]["message"] == "prompt: has token id 99999, want 0 … 4095"


def test_a_whole_answer_says_which_worker_made_it(sim):
    body = {"model": "sim", "prompt": "x", "max_tokens": 1}
    _, headers, answer = sim.post("/v1/completions", body)
    assert headers["X-Worker-Hint"].split("/")[0] in sim.workers
    assert headers["X-Request-Id"] in answer["id"]


def test_one_connection_serves_many_requests(sim):
    connection = sim.connect()
    for path, code in [("/health", 200), ("/v1/models", 200), ("/nothing", 404), ("/v1/completions", 405), ("/docs", 200)]:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        assert response.status == code
    assert isinstance(connection, http.client.HTTPConnection) and connection.sock is not None
    connection.close()
