"""Streams of every kind whose worker is killed: the callers get what an undisturbed run gives, token for token."""
import json
import os
import subprocess

import pytest
from processes import events, text_of, until

TEXT = "/v1/completions"
STEP = ("--sim", "--sim-step-ms", 10)


def prompt(**more):
    return {"model": "sim", "prompt": "once upon a time", "max_tokens": 80, "ignore_eos": True, "temperature": 0, **more}


def kinds(cluster):
    """Requests by name. The stop string is so long that it is being held back while the worker dies."""
    text = cluster.post(TEXT, prompt(seed=4, temperature=1))[2]["choices"][0]["text"]
    return {
        "greedy": prompt(seed=2),  # the simulated engine draws at any temperature
        "sampled": prompt(seed=3, temperature=1),
        "choices": prompt(seed=5, temperature=1, n=3),
        "logprobs": prompt(seed=6, temperature=1, logprobs=3),
        "penalties": prompt(seed=7, temperature=1, frequency_penalty=1, repetition_penalty=1.2),
        "stop": prompt(seed=4, temperature=1, stop=[text[2:60]]),
        "ends": prompt(seed=8, temperature=1, n=2, ignore_eos=False, max_tokens=200),
    }


def whole(stream):
    """What a stream of completions comes to, by choice."""
    choices = {}
    for event in stream:
        assert "error" not in event, event
        for choice in event["choices"]:
            text, logprobs, reason = choices.get(choice["index"], ("", [], None))
            tokens = (choice.get("logprobs") or {}).get("token_logprobs") or []
            choices[choice["index"]] = (text + choice["text"], logprobs + tokens, choice["finish_reason"] or reason)
    return choices


def run(cluster, body):
    connection, response = cluster.open_stream(body)
    result = whole(events(response))
    connection.close()
    return result


@pytest.mark.parametrize("after", ["submit", "first"])
def test_a_killed_workers_streams_go_on_as_if_nothing_had_happened(start_cluster, after):
    # Prompts take a while, so that a kill can hit them.
    cluster = start_cluster(worker_arguments=(*STEP, "--sim-prefill-rate", 200, "--sim-stop-probability", 0.02))
    requests = kinds(cluster)
    undisturbed = {name: run(cluster, body) for name, body in requests.items()}
    assert undisturbed["stop"][0][2] == "stop" and undisturbed["stop"][0][0] == undisturbed["stop"][0][0][:2]
    streams = []
    for name, body in requests.items():
        for i in range(4):
            connection = cluster.connect()
            connection.request("POST", TEXT, json.dumps(dict(body, stream=True, session_id=f"{name}-{after}-{i}")))
            streams.append((name, connection))
    hit = cluster.workers["w0"]
    until(lambda: cluster.metric(hit, "vllm:num_requests_running") > 0)
    if after == "submit":
        hit.kill()
    responses = [(name, connection, connection.getresponse()) for name, connection in streams]
    begun = [(name, connection, response, events(response)) for name, connection, response in responses]
    firsts = [next(stream, None) for *_, stream in begun]
    if after != "submit":
        hit.kill()
    for (name, connection, _, stream), first in zip(begun, firsts):
        assert whole([*([first] if first else []), *stream]) == undisturbed[name], name
        connection.close()
    failovers = sum(
        cluster.metric(cluster.gateway, "berth_gateway_failovers_total", result="ok", phase=phase)
        for phase in ("before_first_token", "mid_stream")
    )
    assert failovers > 0, "no stream was hit"
    assert cluster.metric(cluster.gateway, "berth_gateway_failovers_total", result="failed") == 0


def test_a_tool_call_goes_on_where_it_stood(start_cluster):
    cluster = start_cluster(worker_arguments=STEP)
    arguments = json.dumps({"city": "Paris, Texas" * 4})
    # What stands between the two control characters the simulated engine says.
    said = f'<think>Hm.</think>I look.<tool_call>{{"name": "weather", "arguments": {arguments}}}</tool_call>'
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    body = {"model": "sim", "messages": [{"role": "user", "content": f"\x02{said}\x03"}], "tools": [tool], "max_tokens": 400}

    def deltas():
        connection = cluster.connect()
        connection.request("POST", "/v1/chat/completions", json.dumps(dict(body, stream=True)))
        for event in events(connection.getresponse()):
            yield from (choice["delta"] for choice in event["choices"])
        connection.close()

    def gathered(stream):
        """(content, reasoning, name and arguments of the call)"""
        content, reasoning, call = "", "", ["", ""]
        for delta in stream:
            content += delta.get("content") or ""
            reasoning += delta.get("reasoning_content") or ""
            for part in delta.get("tool_calls", []):
                call[0] += part["function"].get("name") or ""
                call[1] += part["function"].get("arguments") or ""
        return content, reasoning, call

    stream, begun = deltas(), []
    while len(gathered(begun)[2][1]) < 10:
        begun.append(next(stream))
    hit = cluster.workers[cluster.busy()[0]]
    hit.kill()
    content, reasoning, call = gathered([*begun, *stream])
    assert (content, reasoning, call) == ("I look.", "Hm.", ["weather", arguments])
    assert cluster.metric(cluster.gateway, "berth_gateway_failovers_total", result="ok", phase="mid_stream") == 1


def test_one_poisoned_request_takes_two_workers_at_most(start_cluster):
    # A prompt may hold the token that no answer has.
    poison = 5
    cluster = start_cluster(workers=4, worker_arguments=(*STEP, "--sim-crash-on-token", poison))
    body = prompt(seed=9, temperature=1, max_tokens=60)
    undisturbed = cluster.post(TEXT, body)[2]["choices"][0]["text"]
    streams = [cluster.open_stream(dict(body, session_id=f"s{i}")) for i in range(16)]
    status, _, answer = cluster.post(TEXT, prompt(prompt=[70, poison, 71]))
    assert status == 500, answer
    assert answer["error"]["code"] == "request_suspect"
    for connection, response in streams:
        assert text_of(response) == undisturbed
        connection.close()
    until(lambda: sum(worker.child.poll() is not None for worker in cluster.workers.values()) == 2)
    assert cluster.post(TEXT, body)[2]["choices"][0]["text"] == undisturbed
    for worker in cluster.workers.values():
        if worker.child.poll() is not None:
            cluster.processes.remove(worker)  # it crashed, as it was to


def test_a_client_goes_on_through_the_other_gateway(start_cluster):
    cluster = start_cluster(worker_arguments=STEP)
    gateways = [cluster.gateway, cluster.start_gateway("other", cluster.addresses())]

    def chat():
        server = ",".join(f"127.0.0.1:{gateway.ready['grpc_port']}" for gateway in gateways)
        command = [os.path.join(cluster.bin_dir, "berth"), "chat", "--server", server, "--prompt", "once", "--seed", "4", "--max-tokens", "100"]
        return subprocess.Popen(command, stdout=subprocess.PIPE)

    undisturbed, _ = chat().communicate()
    disturbed = chat()
    begun = disturbed.stdout.read(20)
    gateways[0].kill()
    rest, _ = disturbed.communicate()
    assert disturbed.returncode == 0
    assert begun + rest == undisturbed
    assert len(rest) > 50, "it was over too soon to be hit"
