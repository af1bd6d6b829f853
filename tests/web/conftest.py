import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from browser import LONGEST, Page, open_browser  # noqa: E402
from processes import Cluster  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--bin-dir", required=True, help="where berth-gateway and berth-worker are")


@pytest.fixture(scope="session")
def cluster(request, tmp_path_factory):
    simulated = ("--sim", "--sim-step-ms", "5")
    started = Cluster(request.config.getoption("--bin-dir"), str(tmp_path_factory.mktemp("web")), worker_arguments=simulated)
    yield started
    assert all(status in (0, -9) for status in started.stop())


@pytest.fixture(scope="session")
def browser():
    driver = open_browser()
    yield driver
    driver.quit()


@pytest.fixture
def page(cluster, browser):
    """A fresh visit, with answers of 24 tokens. Nothing may have gone wrong in the browser by its end."""
    browser.get(cluster.url + "/web/icon.svg")
    browser.execute_script("localStorage.clear(); sessionStorage.clear()")
    browser.execute_script(LONGEST, 24)
    page = Page(browser, cluster.url).ready()
    browser.get_log("browser")
    yield page
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
