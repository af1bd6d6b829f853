"""Workers whose simulated engine misbehaves on request: the callers do not notice."""
from processes import text_of

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
