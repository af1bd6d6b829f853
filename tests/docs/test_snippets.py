"""Runs every marked snippet of the README and the guides."""
import os
import re
import signal
import subprocess
import sys

import pytest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
PAGES = ["README.md"] + [f"docs/{name}.md" for name in ("serving", "clients", "sessions", "sampling")]
FENCE = re.compile(r"^```(\w+) (run|serve|installed|bare)\n(.*?)^```$", re.M | re.S)


def snippets():
    for page in PAGES:
        text = open(os.path.join(ROOT, page), encoding="utf-8").read()
        for match in FENCE.finditer(text):
            if match[2] == "bare":
                continue
            line = text[: match.start()].count("\n") + 1
            yield pytest.param(*match.groups(), id=f"{page}:{line}")


SNIPPETS = list(snippets())


@pytest.fixture(scope="session")
def fresh_python(tmp_path_factory):
    """An interpreter that has the package `berth` from its wheel, what that needs, and nothing else."""
    folder = tmp_path_factory.mktemp("fresh")
    python = str(folder / "venv" / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", folder, os.path.join(ROOT, "clients", "python")], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    (wheel,) = folder.glob("berth-*.whl")
    subprocess.run([*pip, "--python", python, "install", wheel], check=True)
    return python


@pytest.mark.parametrize("language, how, text", SNIPPETS)
def test_snippet(language, how, text, request, cluster, bin_dir, tmp_path):
    ports = cluster.gateway.ready
    text = text.replace("127.0.0.1:23333", f"127.0.0.1:{ports['http_port']}")
    text = text.replace("127.0.0.1:23334", f"127.0.0.1:{ports['grpc_port']}").replace("build/cpu-release/bin", bin_dir)
    if how == "serve":
        return serve(text)
    environment, folder, python = dict(os.environ, PYTHONPATH="build/stubs"), ROOT, sys.executable
    if how == "installed":  # the package berth, which the stubs would hide
        del environment["PYTHONPATH"]
        folder, python = tmp_path, request.getfixturevalue("fresh_python")
    command = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [python, "-c"]}[language]
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


NOT_RUN = {"deploy/quickstart", "tests/run"}  # bare_debian.py runs the one, the other is what runs this


def fences(page):
    """(information string, text) of every fence of a page."""
    text = open(os.path.join(ROOT, page), encoding="utf-8").read()
    return re.findall(r"^```([^\n]*)\n(.*?)^```$", text, re.M | re.S)


def test_no_snippet_is_left_out():
    """What is not run is a picture, two commands, or C++ of the program of docs/clients.md, which is."""
    program = iter([line.strip() for info, text in fences("docs/clients.md") if info == "cpp" for line in text.splitlines()])
    for page in PAGES:
        for info, text in fences(page):
            if info == "":
                words = {line.split()[0] for line in text.splitlines() if line}
                assert words == NOT_RUN or "─►" in text, f"{page}: {text}"
            elif info == "cpp":
                assert page == "docs/clients.md" or all(line in program for line in text.splitlines()), f"{page}: {text}"
            else:
                assert re.fullmatch(r"\w+ (run|serve|installed|bare)", info), f"{page}: {info}"


def test_the_readme_tells_no_more_than_the_guides_can_show():
    """Each page shows something that runs, and each link between pages leads somewhere."""
    assert {param.id.split(":")[0] for param in SNIPPETS} == set(PAGES)
    for page in PAGES:
        text = open(os.path.join(ROOT, page), encoding="utf-8").read()
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert os.path.exists(os.path.join(ROOT, os.path.dirname(page), target)), f"{page} links to {target}"
