"""A gateway before two workers with the simulated engine: real processes, plain HTTP."""
import json
import os
import resource
import socket
import subprocess

import pytest
from processes import events, text_of, until

TEXT = "/v1/completions"
CHAT = "/v1/chat/completions"


def prompt(**more):
    return {"model": "sim", "prompt": "once upon a time", "max_tokens": 8, "ignore_eos": True, "temperature": 0, **more}


def health(cluster):
    """(status, what the error says) of /health."""
    connection = cluster.connect()
    connection.request("GET", "/health")
    response = connection.getresponse()
    answer = json.loads(response.read())
    connection.close()
    return response.status, answer.get("error", {}).get("message")


def worker_of(headers):
    return headers["X-Worker-Hint"].split("/")[0]


def stream_at(cluster, wanted, **more):
    """An open stream on the wanted worker, found by trying session ids."""
    for i in range(100):
        connection, response = cluster.open_stream(prompt(session_id=f"find-{i}", **more))
        if worker_of(response.headers) == wanted:
            return connection, response
        connection.close()
    raise AssertionError(f"no session landed on {wanted}")


def test_sessions_stick_and_spread(cluster):
    placed = {}
    for turn in range(3):
        for i in range(12):
            connection, response = cluster.open_stream(prompt(session_id=f"s{i}"))
            placed.setdefault(i, set()).add(worker_of(response.headers))
            assert text_of(response)
            connection.close()
    assert all(len(workers) == 1 for workers in placed.values())
    assert set.union(*placed.values()) == {"w0", "w1"}


def test_two_gateways_place_alike(start_cluster, request, tmp_path):
    first = start_cluster()
    addresses = ",".join(f"{name}=127.0.0.1:{worker.ready['port']}" for name, worker in reversed(first.workers.items()))
    from processes import Process

    second = Process(
        request.config.getoption("--bin-dir") + "/berth-gateway", "--workers", addresses, "--http-port", 0, "--grpc-port", 0,
        "--admin-port", 0, "--metrics-port", 0, "--wait-workers", log=tmp_path / "second.log",
    )  # fmt: skip
    try:
        for i in range(8):
            placed = []
            for gateway in (first.gateway, second):
                first.gateway, kept = gateway, first.gateway
                connection, response = first.open_stream(prompt(session_id=f"s{i}"))
                placed.append(worker_of(response.headers))
                text_of(response)
                connection.close()
                first.gateway = kept
            assert placed[0] == placed[1]
    finally:
        assert second.stop() == 0


def test_several_models_behind_one_gateway(start_cluster):
    cluster = start_cluster(workers=2, worker_arguments=("--sim", "--model-name", "small"))
    cluster.worker_arguments = ("--sim", "--model-name", "large")
    cluster.start_worker("w2")
    cluster.gateway = cluster.start_gateway("both", cluster.addresses())
    connection = cluster.connect()
    connection.request("GET", "/v1/models")
    assert [model["id"] for model in json.loads(connection.getresponse().read())["data"]] == ["large", "small"]

    def workers_of(model):
        found = set()
        for i in range(16):
            connection, response = cluster.open_stream(prompt(model=model, session_id=f"s{i}"))
            found.add(worker_of(response.headers))
            assert all(event["model"] == model for event in events(response))
            connection.close()
        return found

    assert workers_of("small") == {"w0", "w1"}
    assert workers_of("large") == {"w2"}
    status, _, answer = cluster.post(TEXT, prompt(model="none"))
    assert status == 404 and "none" in answer["error"]["message"]
    cluster.workers["w2"].kill()
    until(lambda: cluster.post(TEXT, prompt(model="large"))[0] == 503)
    assert workers_of("small") == {"w0", "w1"}


def test_the_same_seed_gives_the_same_text_on_any_worker(cluster):
    texts = {cluster.post(TEXT, prompt(seed=7, temperature=1, session_id=f"s{i}"))[2]["choices"][0]["text"] for i in range(6)}
    assert len(texts) == 1


def test_a_caller_who_leaves_frees_the_worker(cluster):
    connection, response = cluster.open_stream(prompt(max_tokens=4000))
    worker = cluster.workers[worker_of(response.headers)]
    next(events(response))
    assert cluster.metric(worker, "vllm:num_requests_running") == 1
    response.close()
    connection.close()
    until(lambda: cluster.metric(worker, "vllm:num_requests_running") == 0)
    until(lambda: cluster.metric(cluster.gateway, "berth_gateway_streams_open", worker=worker.ready["worker_id"]) == 0)
    assert cluster.metric(cluster.gateway, "berth_gateway_requests_total", code="CANCELLED") == 1


def test_a_killed_workers_streams_go_on_elsewhere_and_others_do_not_notice(cluster):
    request = dict(seed=11, temperature=1, max_tokens=120)
    undisturbed = cluster.post(TEXT, prompt(**request))[2]["choices"][0]["text"]
    hit_connection, hit = stream_at(cluster, "w0", **request)
    kept_connection, kept = stream_at(cluster, "w1", **request)
    first = next(events(hit))
    cluster.workers["w0"].kill()
    assert text_of(kept) == undisturbed
    assert "".join(choice["text"] for choice in first["choices"]) + text_of(hit) == undisturbed
    assert cluster.metric(cluster.gateway, "berth_gateway_failovers_total", result="ok") >= 1, "no stream was hit"
    until(lambda: cluster.metric(cluster.gateway, "berth_gateway_worker_up", worker="w0") == 0)
    status, _, _ = cluster.post(TEXT, prompt())
    assert status == 200
    hit_connection.close()
    kept_connection.close()


def test_without_another_worker_the_stream_ends_with_a_clear_error(start_cluster):
    cluster = start_cluster(workers=1)
    connection, response = cluster.open_stream(prompt(max_tokens=2000))
    stream = events(response)
    next(stream)
    cluster.workers["w0"].kill()
    last = list(stream)[-1]
    assert last["error"]["code"] == "worker_lost"
    connection.close()
    status, _, answer = cluster.post(TEXT, prompt())
    assert status == 503
    assert answer["error"]["code"] == "no_healthy_worker"
    assert health(cluster) == (503, "no worker can take requests")


def test_health_follows_whether_a_worker_takes_requests(start_cluster):
    cluster = start_cluster()

    def admin(command, worker):
        berth, address = os.path.join(cluster.bin_dir, "berth"), f"127.0.0.1:{cluster.workers[worker].ready['admin_port']}"
        subprocess.run([berth, "admin", "--server", address, command], check=True, timeout=60, stdout=subprocess.DEVNULL)

    assert health(cluster)[0] == 200
    admin("drain", "w0")
    assert health(cluster)[0] == 200
    admin("drain", "w1")
    until(lambda: health(cluster)[0] == 503)
    admin("undrain", "w0")
    until(lambda: health(cluster)[0] == 200)
    assert cluster.post(TEXT, prompt())[0] == 200


def test_a_slow_reader_is_dropped_and_others_go_on(cluster):
    address = ("127.0.0.1", cluster.gateway.ready["http_port"])
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(address)
    body = json.dumps(prompt(max_tokens=4000, n=8, logprobs=20, temperature=1, stream=True)).encode()
    slow.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    until(lambda: cluster.metric(cluster.gateway, "berth_gateway_slow_client_aborts_total") == 1)
    for name, worker in cluster.workers.items():
        until(lambda: cluster.metric(worker, "vllm:num_requests_running") == 0)
    assert cluster.post(TEXT, prompt())[0] == 200
    slow.close()


def assert_error(answer, expected):
    status, _, body = answer
    assert status == expected, body
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    return body["error"]


def test_every_bad_input_is_one_clear_error_and_nobody_else_notices(cluster):
    connection, running = cluster.open_stream(prompt(max_tokens=300))
    for field, values in {
        "max_tokens": [0, -1, 1.5, "x", 10**12],
        "temperature": [-1, 3, "hot", 1e39],
        "top_p": [0, -0.1, 1.1],
        "top_k": [-2],
        "min_p": [-0.1, 1.5],
        "n": [0, -1, 129, 2147483647, 1.5],
        "repetition_penalty": [0, -1],
        "presence_penalty": [3],
        "logprobs": [-1, 21],
        "stop": [[""], 3, ["x"] * 17],
        "logit_bias": [{"x": 1}, {"1": 1000}],
    }.items():
        for value in values:
            error = assert_error(cluster.post(TEXT, prompt(**{field: value})), 400)
            assert field in (error["param"] or "") or field in error["message"], (field, value, error)
    error = assert_error(cluster.post(TEXT, prompt(prompt="word " * 50000)), 400)
    assert error["code"] == "context_length_exceeded"
    assert assert_error(cluster.post(TEXT, prompt(model="gpt-9")), 404)["code"] == "model_not_found"
    for body in (b"", b"{", b"[]", b'{"model": }', b'"text"', b"\x00\xff", b'{"model":"sim","prompt":"x","temperature":NaN}',
                 b'{"model":"sim","prompt":"\xff\xfe"}', b'{"model":"sim","prompt":"\\ud800"}'):  # fmt: skip
        assert_error(cluster.post(TEXT, body), 400)
    assert_error(cluster.post(CHAT, {"model": "sim", "messages": []}), 400)
    assert_error(cluster.post(CHAT, {"model": "sim"}), 400)
    assert_error(cluster.post(TEXT, b"x" * (100 << 20)), 413)
    text_of(running)
    connection.close()
    assert cluster.post(TEXT, prompt())[0] == 200


def test_a_full_gateway_says_when_to_come_back(start_cluster):
    cluster = start_cluster(workers=1, gateway_arguments=("--max-streams", 1, "--max-waiting", 0))
    connection, response = cluster.open_stream(prompt(max_tokens=2000))
    status, headers, answer = cluster.post(TEXT, prompt())
    assert status == 429
    assert int(headers["Retry-After"]) >= 1
    assert answer["error"]["code"] == "queue_full"
    connection.close()
    response.close()


def test_a_gateway_out_of_descriptors_takes_callers_again(start_cluster):
    cluster = start_cluster(workers=1)
    pid, port = cluster.gateway.child.pid, cluster.gateway.ready["grpc_port"]
    descriptors = f"/proc/{pid}/fd"
    limit = len(os.listdir(descriptors)) + 8
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, limit))
    callers = [socket.create_connection(("127.0.0.1", port)) for _ in range(16)]
    until(lambda: len(os.listdir(descriptors)) == limit)
    for caller in callers:
        caller.close()
    berth = os.path.join(cluster.bin_dir, "berth")
    done = subprocess.run([berth, "chat", "--server", f"127.0.0.1:{port}", "--prompt", "once", "--max-tokens", "4"],
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def texts_by_index(response, count):
    texts = [""] * count
    for event in events(response):
        assert "error" not in event, event
        for choice in event["choices"]:
            texts[choice["index"]] += choice["text"]
    return texts


@pytest.mark.parametrize("prompts", [["a", "bc", "def"], [[70, 71], [72], [73, 74, 75]]])
def test_several_prompts(cluster, prompts):
    body = prompt(n=2, temperature=1, seed=5)
    alone = [cluster.post(TEXT, dict(body, prompt=each))[2] for each in prompts]
    status, _, whole = cluster.post(TEXT, dict(body, prompt=prompts))
    assert status == 200, whole
    assert [choice["index"] for choice in whole["choices"]] == list(range(6))
    expected = [choice["text"] for answer in alone for choice in answer["choices"]]
    assert [choice["text"] for choice in whole["choices"]] == expected
    for count in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert whole["usage"][count] == sum(answer["usage"][count] for answer in alone)
    connection, response = cluster.open_stream(dict(body, prompt=prompts))
    assert texts_by_index(response, 6) == expected
    connection.close()


def test_one_bad_prompt_of_several_fails_them_all(cluster):
    status, _, answer = cluster.post(TEXT, prompt(prompt=["good", "word " * 50000, "good"]))
    assert status == 400
    assert answer["error"]["code"] == "context_length_exceeded"
    for worker in cluster.workers.values():
        until(lambda: cluster.metric(worker, "vllm:num_requests_running") == 0)


def test_a_caller_who_leaves_frees_the_worker_of_all_prompts(cluster):
    connection, response = cluster.open_stream(prompt(prompt=["a", "b", "c"], max_tokens=4000))
    next(events(response))
    response.close()
    connection.close()
    for worker in cluster.workers.values():
        until(lambda: cluster.metric(worker, "vllm:num_requests_running") == 0)


@pytest.mark.parametrize("stream", [False, True])
def test_several_choices(cluster, stream):
    body = prompt(n=3, temperature=1, seed=5)
    if stream:
        connection, response = cluster.open_stream(body)
        texts = texts_by_index(response, 3)
        connection.close()
    else:
        texts = [choice["text"] for choice in cluster.post(TEXT, body)[2]["choices"]]
    assert len(set(texts)) == 3
