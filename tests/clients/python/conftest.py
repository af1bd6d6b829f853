import glob
import os
import sys

import berth
import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "cluster"))

from processes import Cluster  # noqa: E402

ROOT = os.path.join(os.path.dirname(__file__), "..", "..", "..")
TINY_MODEL = os.path.join(ROOT, "tests", "golden", "models", "tiny", "llama")
DEMO_MODELS = sorted(glob.glob(os.path.join(ROOT, ".cache", "models", "*.gguf")))


def pytest_addoption(parser):
    parser.addoption("--bin-dir", required=True, help="where berth, berth-gateway and berth-worker are")


@pytest.fixture(scope="session")
def bin_dir(request):
    return os.path.abspath(request.config.getoption("--bin-dir"))


@pytest.fixture(scope="session")
def local(bin_dir):
    """(model, EngineConfig) of a cluster of a program's own: a tiny model with random weights, a byte to a token."""
    flags = ["--load-format=random", "--seed=1"]
    return TINY_MODEL, berth.EngineConfig(device="cpu", program=os.path.join(bin_dir, "berth"), worker_flags=flags)


@pytest.fixture
def start_cluster(bin_dir, tmp_path):
    """Starts clusters of the simulated engine that end with the test."""
    clusters = []

    def start(**options):
        options = {"worker_arguments": ("--sim", "--sim-step-ms", "1"), **options}
        clusters.append(Cluster(bin_dir, str(tmp_path), **options))
        return clusters[-1]

    yield start
    for cluster in clusters:
        cluster.stop()


@pytest.fixture(scope="session")
def sim(bin_dir, tmp_path_factory):
    """A gateway and two workers with the simulated engine, for all tests."""
    cluster = Cluster(bin_dir, str(tmp_path_factory.mktemp("sim")), worker_arguments=("--sim", "--sim-step-ms", "1"))
    yield cluster
    assert cluster.stop() == [0] * len(cluster.processes)


@pytest.fixture(scope="session")
def slow_address(bin_dir, tmp_path_factory):
    """Of a gateway whose simulated engine takes half a minute for 1500 tokens: time to cancel them."""
    arguments = ("--sim", "--sim-step-ms", "20")
    cluster = Cluster(bin_dir, str(tmp_path_factory.mktemp("slow")), workers=1, worker_arguments=arguments)
    yield address_of(cluster)
    cluster.stop()


def address_of(cluster):
    return f"127.0.0.1:{cluster.gateway.ready['grpc_port']}"


@pytest.fixture
def address(sim):
    return address_of(sim)


@pytest.fixture
def pipe(address):
    with berth.pipeline(address) as made:
        yield made
