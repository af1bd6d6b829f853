import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "cluster"))

from processes import Cluster  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--bin-dir", required=True, help="where the programs are")


@pytest.fixture(scope="session")
def bin_dir(request):
    return request.config.getoption("--bin-dir")


@pytest.fixture(scope="session")
def cluster(bin_dir, tmp_path_factory):
    """Stands for the server of the examples."""
    model = ("--sim", "--sim-step-ms", "1", "--model-name", "SmolLM2-135M-Instruct")
    started = Cluster(bin_dir, str(tmp_path_factory.mktemp("docs")), worker_arguments=model)
    yield started
    assert started.stop() == [0] * len(started.processes)
