"""Workers whose simulated engine misbehaves on request: the callers do not notice."""
import http.client
import signal

from processes import events, text_of, until

TEXT = "/v1/completions"


def request(i):
    return {"model": "sim", "prompt": f"once upon a time {i}", "max_tokens": 120, "ignore_eos": True, "seed": i, "temperature": 1}


def test_frames_that_are_lost_are_sent_again(start_cluster):
    undisturbed = start_cluster()
    texts = [undisturbed.post(TEXT, request(i))[2]["choices"][0]["text"] for i in range(8)]
    faulty = start_cluster(worker_arguments=("--sim", "--sim-step-ms", 5, "--sim-drop-write", 25))
    streams = [faulty.open_stream(request(i)) for i in range(8)]
    assert [text_of(response) for _, response in streams] == texts
    for connection, _ in streams:
        connection.close()
    hit = [faulty.metric(worker, "berth_worker_streams_reattached_total") for worker in faulty.workers.values()]
    assert sum(hit) > 0, "no frame was lost"


def is_ready(worker):
    connection = http.client.HTTPConnection("127.0.0.1", worker.ready["metrics_port"], timeout=30)
    connection.request("GET", "/ready")
    status = connection.getresponse().status
    connection.close()
    return status == 200


def test_a_stalled_step_is_reported_and_its_worker_still_ends(start_cluster):
    cluster = start_cluster(workers=1, worker_arguments=("--sim", "--sim-stall-after-tokens", 20))
    worker = cluster.workers["w0"]
    assert is_ready(worker)
    connection, response = cluster.open_stream(request(0))
    assert list(events(response))[-1]["error"]["code"] == "worker_lost"
    connection.close()
    until(lambda: not is_ready(worker))
    assert "STALLED" in open(worker.log.name, encoding="utf-8").read()
    worker.child.send_signal(signal.SIGTERM)
    assert worker.child.wait(30) == 3, "the exit code of a device fault"
    cluster.processes.remove(worker)


def test_a_device_fault_ends_the_worker_with_a_code_of_its_own(start_cluster):
    cluster = start_cluster(workers=1, worker_arguments=("--sim", "--sim-fail-after-tokens", 20))
    worker = cluster.workers["w0"]
    connection, response = cluster.open_stream(request(0))
    assert list(events(response))[-1]["error"]["code"] == "worker_lost"
    connection.close()
    assert worker.child.wait(30) == 3
    assert "device fault: the simulated device failed after 20 tokens" in open(worker.log.name, encoding="utf-8").read()
    cluster.processes.remove(worker)
