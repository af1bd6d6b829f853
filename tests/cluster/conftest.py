import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from processes import Cluster  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--bin-dir", required=True, help="where berth-gateway and berth-worker are")


@pytest.fixture
def start_cluster(request, tmp_path):
    """Starts clusters that end with the test; every process must end well unless the test killed it."""
    clusters = []

    def start(**options):
        clusters.append(Cluster(request.config.getoption("--bin-dir"), str(tmp_path), **options))
        return clusters[-1]

    yield start
    for cluster in clusters:
        statuses = cluster.stop()
        assert all(status in (0, -9) for status in statuses), statuses


@pytest.fixture
def cluster(start_cluster):
    """Two workers with the simulated engine."""
    return start_cluster()
