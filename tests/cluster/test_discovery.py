"""A worker that joins by a watched file: no live session moves, whichever gateway it comes through; idle ones do."""
import os

from processes import text_of, until

TEXT = "/v1/completions"
SESSIONS = 24


def place(cluster, session):
    connection, response = cluster.open_stream({"model": "sim", "prompt": "a", "max_tokens": 2, "session_id": session})
    assert text_of(response)
    connection.close()
    return response.headers["X-Worker-Hint"].split("/")[0]


def places(cluster):
    return [place(cluster, f"s{i}") for i in range(SESSIONS)]


def test_a_worker_joins(start_cluster, tmp_path):
    cluster = start_cluster(workers=1)
    path = tmp_path / "workers"

    def write():
        (tmp_path / "next").write_text("# the cluster\n" + cluster.addresses().replace(",", "\n"))
        os.rename(tmp_path / "next", path)

    write()
    cluster.gateway = first = cluster.start_gateway("first", f"file:{path}")
    assert places(cluster) == ["w0"] * SESSIONS
    cluster.start_worker("w1")
    write()
    until(lambda: cluster.metric(first, "berth_gateway_worker_up", worker="w1") == 1)
    assert places(cluster) == ["w0"] * SESSIONS, "a live session moved"
    cluster.gateway = cluster.start_gateway("fresh", f"file:{path}")
    assert places(cluster) == ["w0"] * SESSIONS, "a gateway that knows nothing moved a live session"
    assert "w1" in {place(cluster, f"new{i}") for i in range(SESSIONS)}
    cluster.gateway = cluster.start_gateway("eager", f"file:{path}", "--move-idle", 0)
    moved = places(cluster).count("w1")
    assert 4 <= moved <= 20, f"{moved} of {SESSIONS} sessions rank the new worker first"

    path.write_text("nonsense")
    until(lambda: cluster.metric(first, "berth_gateway_config_reloads_total", result="error") >= 1)
    cluster.gateway = first
    assert places(cluster), "the last good list stays"
