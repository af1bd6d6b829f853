"""Bytes that are no good HTTP: each is answered or closed, and the next caller notices nothing."""
import json
import re
import socket

import pytest
from processes import until

BODY = json.dumps({"model": "sim", "prompt": "x", "max_tokens": 1}).encode()
GOOD = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


def answers_to(cluster, data, count=1):
    """(status, body) of the first so many answers."""
    answers = []
    with socket.create_connection(("127.0.0.1", cluster.gateway.ready["http_port"]), timeout=30) as connection:
        try:
            connection.sendall(data)
        except OSError:
            pass  # it was closed already
        got = b""
        while len(answers) < count:
            head, found, rest = got.partition(b"\r\n\r\n")
            length = int(re.search(rb"Content-Length: (\d+)", head)[1]) if found else 0
            if found and len(rest) >= length:
                answers.append((int(head.split()[1]), rest[:length]))
                got = rest[length:]
                continue
            part = connection.recv(65536)
            assert part, got
            got += part
    return answers


@pytest.mark.parametrize(
    "data, codes",
    [
        (b"\x00\x01\x02\x03\r\n\r\n", {400}),
        (b"GET\r\n\r\n", {400}),
        (b"GET / HTTP/9.9\r\n\r\n", {400}),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", {400}),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400}),
        (b"GET /health HTTP/1.1\r\nno colon\r\n\r\n", {400}),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n", {400}),
        (b"GET /health HTTP/1.1\r\n" + b"X: " + b"a" * (100 << 10) + b"\r\n\r\n", {431}),
        (b"GET /health HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % i for i in range(20000)) + b"\r\n", {431}),
        (b"POST /v1/completions HTTP/1.1\r\nContent-Length: -5\r\n\r\n", {400}),
        (b"POST /v1/completions HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", {400}),
        (b"POST /v1/completions HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", {400}),
        (b"POST /v1/completions HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n", {413}),
        (b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", {400}),
        (b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", {400}),
        (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", {404}),
        (b"GET /v1/models/../../health HTTP/1.1\r\n\r\n", {404}),
        (b"GET /%2e%2e/health HTTP/1.1\r\n\r\n", {404}),
        (b"GET //health HTTP/1.1\r\n\r\n", {404}),
        (b"GET /health/ HTTP/1.1\r\n\r\n", {404}),
        (b"GET http://other/health HTTP/1.1\r\n\r\n", {404}),
        (b"BREW /health HTTP/1.1\r\n\r\n", {400, 405}),
        (b"DELETE /v1/models HTTP/1.1\r\n\r\n", {405}),
        (b"POST /v1/completions HTTP/1.1\r\nContent-Length: 3\r\n\r\n{}}", {400}),
        (b"POST /v1/completions HTTP/1.1\r\nContent-Length: 200000\r\n\r\n" + b"[" * 200000, {400}),
        (GOOD + b"garbage that follows\r\n\r\n", {200}),
    ],
)
def test_one_clear_answer(sim, data, codes):
    [(code, body)] = answers_to(sim, data)
    assert code in codes, body
    if code != 200:
        assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    assert sim.post("/v1/completions", json.loads(BODY))[0] == 200


@pytest.mark.parametrize(
    "data, code, kind",
    [
        (b"GET /v1/messages HTTP/1.1\r\n\r\n", 405, "invalid_request_error"),
        (b"POST /v1/messages/batches HTTP/1.1\r\n\r\n", 404, "not_found_error"),
        (b"POST /v1/messages HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n", 413, "request_too_large"),
        (b"POST /v1/messages?beta=true HTTP/1.1\r\nContent-Length: 2\r\n\r\n{]", 400, "invalid_request_error"),
    ],
)
def test_anthropics_clients_read_all_errors(sim, data, code, kind):
    [(got, body)] = answers_to(sim, data)
    error = json.loads(body)
    assert (got, error["type"], error["error"]["type"]) == (code, "error", kind)
    assert error["error"]["message"]


def test_requests_may_follow_each_other_at_once(sim):
    answers = answers_to(sim, GOOD + GOOD + b"GET /nothing HTTP/1.1\r\n\r\n", count=3)
    assert [code for code, _ in answers] == [200, 200, 404]


def test_the_next_request_may_come_while_this_one_is_answered(guarded):
    slow = {"model": "sim", "prompt": "x", "max_tokens": 3, "ignore_eos": True}
    body = json.dumps(slow).encode()
    request = b"POST /v1/completions HTTP/1.1\r\nAuthorization: Bearer secret\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with socket.create_connection(("127.0.0.1", guarded.gateway.ready["http_port"]), timeout=30) as connection:
        connection.sendall(request)
        worker = guarded.workers["w0"]
        until(lambda: guarded.metric(worker, "vllm:num_requests_running") == 1)
        connection.sendall(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")
        got = b""
        while part := connection.recv(65536):
            got += part
    assert got.count(b"HTTP/1.1 200") == 2


def test_one_who_dawdles_holds_nobody_up(sim):
    slow = [socket.create_connection(("127.0.0.1", sim.gateway.ready["http_port"])) for _ in range(100)]
    for connection in slow:
        connection.sendall(GOOD[:20])
    assert sim.post("/v1/completions", json.loads(BODY))[0] == 200
    for connection in slow:
        connection.close()


MESSAGES = [{"role": "user", "content": "x"}]
GOOD_BODIES = {
    "/v1/chat/completions": {"model": "sim", "messages": MESSAGES, "max_tokens": 1},
    "/v1/completions": {"model": "sim", "prompt": "x", "max_tokens": 1},
    "/v1/messages": {"model": "sim", "messages": MESSAGES, "max_tokens": 1},
    "/v1/responses": {"model": "sim", "input": MESSAGES, "max_output_tokens": 1},
    "/v1/chat/interactive": {"prompt": "x", "request_output_len": 1},
    "/generate": {"prompt": "x", "max_tokens": 1},
    "/v1/embeddings": {"model": "sim", "input": "x"},
    "/v1/encode": {"input": "x"},
    "/v1/tokenize": {"messages": MESSAGES},
    "/v1/detokenize": {"tokens": [5]},
}
SAMPLING = {
    "temperature": [-0.1, 2.1, "x", [1]], "top_p": [0, 1.1, "x"], "top_k": [-1, 1.5, "x"], "min_p": [-0.1, 1.1, "x"],
    "presence_penalty": [-2.1, 2.1, "x"], "frequency_penalty": [-2.1, 2.1, "x"], "repetition_penalty": [0, -1, "x"],
    "seed": ["x", 1.5, 2**70], "bad_words": [3, [3], [""], ["x"] * 129], "stop_token_ids": ["x", [-1], [10**9], [1.5]],
    "ignore_eos": ["x", 1], "min_tokens": [-1, 99, "x"], "skip_special_tokens": ["x"], "include_stop_str_in_output": [3],
}  # fmt: skip
FIELDS = {
    "/v1/completions": {
        **SAMPLING,
        "prompt": [None, [], [[]], ["x", 1], [99999], [1.5], 3, {}, ["x"] * 200], "echo": ["x"], "suffix": [3, "x"], "best_of": [2, "x"],
        "logprobs": [21, -1, "x"], "max_tokens": [0, -1, 1.5, "x", 2**40], "n": [0, 129, "x"], "stop": [3, [3], [""], ["x"] * 17, "x" * 5000],
        "logit_bias": [3, {"x": 1}, {"1": 101}, {"1": "x"}], "stream": [1], "stream_options": [3], "session_id": [1.5, "x" * 300],
    },
    "/v1/chat/interactive": {
        "prompt": [None, 3, [], [{}], [{"role": 1}]], "session_id": [1.5, [], "x" * 300], "interactive_mode": ["x"], "cancel": ["x"],
        "request_output_len": [0, -1, "x"], "stop": [3, [""]], "temperature": [3], "image_url": ["x"], "stream": ["x"],
    },
    "/generate": {
        "prompt": [None, 3], "input_ids": [3, [], ["x"], [1]], "max_tokens": [0, "x"], "return_logprob": ["x"], "n": [2], "temperature": [3],
        "image_data": ["x"], "stream": [3], "stop": [3],
    },
    "/v1/embeddings": {"model": [None, 3], "input": [None, 3, [], [""], [1.5], [[]]], "encoding_format": [3, "x"], "dimensions": [3]},
    "/v1/encode": {"input": [None, 3, [], [3]], "do_preprocess": ["x"], "add_bos": [False, "x"]},
    "/v1/tokenize": {"prompt": [3, "x"], "messages": [3, []], "model": [3], "add_generation_prompt": ["x"]},
    "/v1/detokenize": {"tokens": [None, 3, ["x"], [1.5]], "skip_special_tokens": ["x"], "model": [3]},
    "/v1/chat/completions": {
        **SAMPLING,
        "messages": [None, [], "hi", [1], [{}], [{"role": 1}], [{"role": "user", "content": 3}], [{"role": "user", "content": [{"type": "x"}]}]],
        "model": [None, 3, []],
        "tools": [3, [3], [{}], [{"type": "function", "function": {}}]],
        "tool_choice": [3, "always", {"type": "x"}],
        "stream": ["yes", 1],
        "stream_options": [{"include_usage": True}, 3],
        "logprobs": [3],
        "top_logprobs": [21, -1, 3],
        "response_format": [3, {}, {"type": "yaml"}, {"type": "json_schema"}],
        "max_completion_tokens": [0, -1, 1.5, "x", 2**40],
        "metadata": [3], "user": [3], "store": ["x"], "modalities": [["audio"]], "audio": [{}], "functions": [[{"name": "f"}]],
        "chat_template_kwargs": [3], "reasoning_effort": [3], "session_id": [1.5, "x" * 300], "priority": [101, 1.5],
        "stop": [3, [3], [""], ["x"] * 17, "x" * 5000], "seed": ["x", 1.5], "n": [0, 129], "logit_bias": [3, {"x": 1}, {"1": 101}],
    },
    "/v1/messages": {
        "messages": [None, [], "hi", [{"role": "system", "content": "x"}], [{"role": "user"}], [{"role": "user", "content": [{"type": "x"}]}]],
        "max_tokens": [None, 0, "x"], "model": [None, 3], "system": [3], "stop_sequences": [3, [""]], "tools": [3, [{"name": ""}]],
        "tool_choice": ["auto", {"type": "x"}, {"type": "tool"}], "thinking": [3, {"type": "x"}], "temperature": [-1, "x"],
    },
    "/v1/responses": {
        "input": [None, [], 3, [3], [{"type": "x"}], [{"role": "user", "content": [{"type": "input_image"}]}]],
        "instructions": [3], "model": [None], "tools": [[{"type": "function"}]], "text": [3, {"format": {"type": "x"}}],
        "reasoning": [3, {"effort": 3}], "truncation": ["auto"], "stream": [3],
    },
}  # fmt: skip


@pytest.mark.parametrize("path, field", [(path, field) for path, fields in FIELDS.items() for field in fields])
def test_every_bad_field_is_named(sim, path, field):
    good = GOOD_BODIES[path]
    assert sim.post(path, good)[0] == 200
    names = {"max_completion_tokens": "max_tokens", "stop_sequences": "stop", "request_output_len": "max_tokens"}
    for value in FIELDS[path][field]:
        status, _, answer = sim.post(path, {**good, field: value})
        assert status == 400, (value, answer)
        assert field in answer["error"]["message"] or names.get(field, field) in answer["error"]["message"], (value, answer)
