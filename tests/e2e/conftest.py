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


@pytest.fixture(scope="session", params=["sim", "demo"])
def cluster(request, tmp_path_factory):
    """The simulated engine on two workers, and the demo model on one where it has been fetched."""
    if request.param == "demo" and not DEMO_MODELS:
        pytest.skip("the demo model is not in .cache/models")
    sim = request.param == "sim"
    started = Cluster(
        request.config.getoption("--bin-dir"),
        str(tmp_path_factory.mktemp(request.param)),
        workers=2 if sim else 1,
        worker_arguments=("--sim",) if sim else ("--model", DEMO_MODELS[0]),
    )
    yield started
    assert started.stop() == [0] * len(started.processes)


@pytest.fixture
def client(cluster):
    return openai.OpenAI(base_url=cluster.url + "/v1", api_key="none", max_retries=0, timeout=120)


@pytest.fixture
def model(client):
    return client.models.list().data[0].id
