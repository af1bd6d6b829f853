import os
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(FOLDER))
sys.path += [FOLDER, os.path.join(ROOT, "tests/cluster"), os.path.join(ROOT, "tests/cluster/chaos")]


def pytest_addoption(parser):
    parser.addoption("--bin-dir", required=True, help="where berth-gateway and berth-worker are")
