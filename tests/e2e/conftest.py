import glob
import os
import sys

import openai
import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "cluster"))

from processes import Cluster  # noqa: E402

DEMO_MODELS = sorted(glob.glob(os.path.join(os.path.dirname(__file__), "..", "..", ".cache", "models", "*.gguf")))


def pytest_addoption(parser):
    parser.addoption("--bin-dir", required=True, help="where berth-gateway and berth-worker are")


def started_cluster(request, tmp_path_factory, name, **options):
    started = Cluster(request.config.getoption("--bin-dir"), str(tmp_path_factory.mktemp(name)), **options)
    yield started
    assert started.stop() == [0] * len(started.processes)


@pytest.fixture(scope="session")
def sim(request, tmp_path_factory):
    """The simulated engine on two workers. A prompt may dictate its answer: see `says`."""
    yield from started_cluster(request, tmp_path_factory, "sim")


@pytest.fixture(scope="session")
def guarded(request, tmp_path_factory):
    """A slow worker behind a gateway that asks for a key, sends heartbeats often and waits a second for a request."""
    yield from started_cluster(
        request, tmp_path_factory, "guarded", workers=1, worker_arguments=("--sim", "--sim-step-ms", 100),
        gateway_arguments=("--api-keys", "secret", "--http-heartbeat-seconds", 0.02, "--http-request-seconds", 1,
                           "--allow-origins", "https://a.example"),
    )  # fmt: skip


@pytest.fixture(scope="session")
def leisurely(request, tmp_path_factory):
    """A worker whose steps take so long that what one of them does can be told from the next."""
    yield from started_cluster(request, tmp_path_factory, "leisurely", workers=1, worker_arguments=("--sim", "--sim-step-ms", 1000))


@pytest.fixture
def doomed(request, tmp_path_factory):
    """Two workers for a test that kills one."""
    options = dict(workers=2, worker_arguments=("--sim", "--sim-step-ms", 5))
    started = Cluster(request.config.getoption("--bin-dir"), str(tmp_path_factory.mktemp("doomed")), **options)
    yield started
    assert sorted(started.stop()) == [-9, 0, 0]


@pytest.fixture(scope="session")
def demo(request, tmp_path_factory):
    if not DEMO_MODELS:
        pytest.skip("the demo model is not in .cache/models")
    yield from started_cluster(request, tmp_path_factory, "demo", workers=1, worker_arguments=("--model", DEMO_MODELS[0]))


@pytest.fixture(scope="session", params=["sim", "demo"])
def cluster(request):
    """The simulated engine, and the demo model where it has been fetched."""
    return request.getfixturevalue(request.param)


def says(text):
    """A prompt that the simulated engine answers with `text`."""
    return f"\x02{text}\x03"


@pytest.fixture
def client(cluster):
    return openai.OpenAI(base_url=cluster.url + "/v1", api_key="none", max_retries=0, timeout=120)


@pytest.fixture
def sim_client(sim):
    return openai.OpenAI(base_url=sim.url + "/v1", api_key="none", max_retries=0, timeout=60)


@pytest.fixture
def model(client):
    return client.models.list().data[0].id
