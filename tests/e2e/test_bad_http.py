"""Bytes that are no good HTTP: each is answered or closed, and the next caller notices nothing."""
import http.client
import itertools
import json
import re
import socket

import pytest
from processes import until

BODY = json.dumps({"model": "sim", "prompt": "x", "max_tokens": 1}).encode()
KEY = b"Authorization: Bearer secret\r\n"  # of `guarded`
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


def answer_code(connection):
    """Of a request without a key."""
    connection.sendall(GOOD)
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status


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


@pytest.mark.parametrize("length", [b"Content-Length: 1000000", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize(
    "line, code",
    [(b"POST /v1/completions", 401), (b"POST /nothing", 404), (b"POST /v1/models", 405), (b"GET /health", 413), (b"OPTIONS /v1/models", 413)],
)
def test_a_large_body_is_not_awaited_where_it_is_of_no_use(guarded, line, code, length):
    [(got, body)] = answers_to(guarded, line + b" HTTP/1.1\r\n" + length + b"\r\n\r\n")
    assert got == code, body


def test_requests_may_follow_each_other_at_once(sim):
    answers = answers_to(sim, GOOD + GOOD + b"GET /nothing HTTP/1.1\r\n\r\n", count=3)
    assert [code for code, _ in answers] == [200, 200, 404]


def test_the_next_request_may_come_while_this_one_is_answered(guarded):
    slow = {"model": "sim", "prompt": "x", "max_tokens": 3, "ignore_eos": True}
    body = json.dumps(slow).encode()
    request = b"POST /v1/completions HTTP/1.1\r\n" + KEY + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with socket.create_connection(("127.0.0.1", guarded.gateway.ready["http_port"]), timeout=30) as connection:
        connection.sendall(request)
        worker = guarded.workers["w0"]
        until(lambda: guarded.metric(worker, "vllm:num_requests_running") == 1)
        connection.sendall(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")
        got = b""
        while part := connection.recv(65536):
            got += part
    assert got.count(b"HTTP/1.1 200") == 2


def drip(connection, data):
    """What the gateway says until it closes the connection, on which it gets byte after byte."""
    connection.settimeout(0.02)  # the time between two bytes
    got = b""
    for byte in itertools.chain(data, itertools.repeat(ord("a"), 3000)):
        try:
            connection.sendall(bytes([byte]))
            part = connection.recv(65536)
        except TimeoutError:
            continue
        got += part
        if not part:
            return got
    pytest.fail(f"a minute, and it was still listened to: {got}")


def read_to_end(connection):
    connection.settimeout(30)
    return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("rest", [None, b"GET /health HTTP/1.1\r\nX: "])
@pytest.mark.parametrize(
    "beginning",
    [
        b"G",
        b"GET /health HTTP/1.1\r\nX: ",
        b"POST /v1/completions HTTP/1.1\r\n" + KEY + b"Content-Length: 1000000\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\n" + KEY + b"Content-Length: 1000000\r\n\r\n{",
        b"POST /v1/completions HTTP/1.1\r\n" + KEY + b"Transfer-Encoding: chunked\r\n\r\nfffff\r\n",
        b"POST /v1/completions HTTP/1.1\r\n" + KEY + b"Expect: 100-continue\r\nContent-Length: 1000000\r\n\r\n",
        GOOD + b"G",
    ],
)
def test_a_request_that_is_not_complete_in_time_is_answered_and_cut_off(guarded, beginning, rest):
    address = ("127.0.0.1", guarded.gateway.ready["http_port"])
    with socket.create_connection(address) as idle, socket.create_connection(address) as connection:
        assert answer_code(idle) == 401
        connection.sendall(beginning)
        got = read_to_end(connection) if rest is None else drip(connection, rest)
        *before, answer = got.split(b"HTTP/1.1 ")
        assert [part[:3] for part in before[1:]] == [code for mark, code in [(b"100-c", b"100"), (GOOD, b"401")] if mark in beginning]
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"408 Request Timeout") and b"\r\nConnection: close" in head
        error = json.loads(body)["error"]
        assert (error["type"], error["message"]) == ("invalid_request_error", "the request was not complete within 1s")
        assert error.get("code") == (None if b"messages" in beginning else "request_timeout")
        assert answer_code(idle) == 401, "who sends nothing may wait longer, and hears nothing"


def test_an_answer_may_take_longer_than_a_request(guarded):
    body = {"model": "sim", "prompt": "x", "max_tokens": 15, "ignore_eos": True}
    status, _, answer = guarded.post("/v1/completions", body, {"Authorization": "Bearer secret"})
    assert (status, answer["usage"]["completion_tokens"]) == (200, 15)


def test_one_who_dawdles_holds_nobody_up(sim):
    slow = [socket.create_connection(("127.0.0.1", sim.gateway.ready["http_port"])) for _ in range(100)]
    for connection in slow:
        connection.sendall(GOOD[:20])
    assert sim.post("/v1/completions", json.loads(BODY))[0] == 200
    for connection in slow:
        connection.close()
