"""Runs every marked snippet of the README and the guides."""
import os
import re
import signal
import subprocess
import sys

import pytest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
PAGES = ["README.md"] + [f"docs/{name}.md" for name in ("serving", "clients", "sessions", "sampling")]
FENCE = re.compile(r"^```(\w+) (run|serve|installed)\n(.*?)^```$", re.M | re.S)


def snippets():
    for page in PAGES:
        text = open(os.path.join(ROOT, page), encoding="utf-8").read()
        for match in FENCE.finditer(text):
            line = text[: match.start()].count("\n") + 1
            yield pytest.param(*match.groups(), id=f"{page}:{line}")


SNIPPETS = list(snippets())


@pytest.mark.parametrize("language, how, text", SNIPPETS)
def test_snippet(language, how, text, cluster, bin_dir, tmp_path):
    ports = cluster.gateway.ready
    text = text.replace("127.0.0.1:23333", f"127.0.0.1:{ports['http_port']}")
    text = text.replace("127.0.0.1:23334", f"127.0.0.1:{ports['grpc_port']}").replace("build/cpu-release/bin", bin_dir)
    if how == "serve":
        return serve(text)
    command = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[language]
    environment, folder = dict(os.environ, PYTHONPATH="build/stubs"), ROOT
    if how == "installed":  # the package berth, which the stubs would hide
        del environment["PYTHONPATH"]
        folder = tmp_path
    done = subprocess.run([*command, text], cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert '"error"' not in done.stdout or "model_not_found" in done.stdout, done.stdout
    assert done.stdout or "protoc" in text or "CloseSession" in text


def serve(text):
    """Starts what the snippet starts, without a model and on free ports, until it says that it serves."""
    ports = " ".join(f"--{name}port 0" for name in ("", "grpc-", "admin-", "metrics-"))
    command = text.replace("path/to/model.gguf", f"--sim {ports}")
    child = subprocess.Popen(["bash", "-c", "exec " + command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    served = any(line.startswith("serving at http://127.0.0.1:") for line in iter(child.stdout.readline, ""))
    child.send_signal(signal.SIGINT)
    rest = child.communicate(timeout=60)[0]
    assert served and child.returncode == 0, rest


def test_the_cpp_client(cluster, bin_dir):
    done = subprocess.run(
        [os.path.join(bin_dir, "docs_client"), f"127.0.0.1:{cluster.gateway.ready['grpc_port']}"],
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout, done.stderr


def test_the_readme_tells_no_more_than_the_guides_can_show():
    """Each page shows something that runs, and each link between pages leads somewhere."""
    assert {param.id.split(":")[0] for param in SNIPPETS} == set(PAGES)
    for page in PAGES:
        text = open(os.path.join(ROOT, page), encoding="utf-8").read()
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert os.path.exists(os.path.join(ROOT, os.path.dirname(page), target)), f"{page} links to {target}"
