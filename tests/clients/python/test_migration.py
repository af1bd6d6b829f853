"""docs/migrating_from_lmdeploy.md: every line that can be run is run."""

import array
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, TINY_MODEL, address_of
from processes import Cluster

PAGE = os.path.join(ROOT, "docs", "migrating_from_lmdeploy.md")
with open(PAGE, encoding="utf-8") as page:
    BLOCKS = re.findall(r"^```([a-z ]+)\n(.*?)^```$", page.read(), re.M | re.S)


TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def lines(kind):
    return [line for language, text in BLOCKS if language == kind for line in text.splitlines()]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The tiny model as a checkpoint: config, tokenizer and random weights in one safetensors file."""
    folder = tmp_path_factory.mktemp("path-to") / "model"
    shutil.copytree(TINY_MODEL, folder)
    shutil.copy(os.path.join(TINY_MODEL, "..", "tokenizer.json"), folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    source, header, data = random.Random(1), {}, b""
    for line in (folder / "tensors.txt").read_text().split("\n")[:-1]:
        name, kind, shape = line.split()
        assert kind == "F32"
        shape, begin = [int(n) for n in shape.split("x")], len(data)
        count = 1
        for n in shape:
            count *= n
        data += array.array("f", [source.uniform(-0.1, 0.1) for _ in range(count)]).tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    return str(folder)


@pytest.fixture(scope="module")
def cluster(bin_dir, model, tmp_path_factory):
    started = Cluster(
        bin_dir,
        str(tmp_path_factory.mktemp("served")),
        workers=1,
        worker_arguments=("--model", model, "--device", "cpu"),
    )
    yield started
    started.stop()


def localise(text, model, cluster):
    """The page's names and ports are this test's."""
    text = text.replace("path/to/model", model).replace("http://127.0.0.1:23333/v1", cluster.url + "/v1")
    grpc = cluster.gateway.ready["grpc_port"]
    return text.replace("http://127.0.0.1:23333", f"http://127.0.0.1:{grpc - 1}").replace(
        "127.0.0.1:23334", address_of(cluster)
    )


def run(command, **options):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)


def serve(command, environment):
    """Starts a server on free ports, waits until it is ready and stops it."""
    ports = [i + 1 for i, word in enumerate(command) if word in ("--server-port", "--server_port", "--port")]
    for i in ports:
        command[i] = "0"
    others = [word for name in ("grpc", "admin", "metrics") for word in (f"--{name}-port", "0")]
    command += [*([] if ports else ["--port", "0"]), *others, "--ready-line", "--stop-with-stdin"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as server:
        line = server.stdout.readline()
        _, errors = server.communicate()
    assert line and json.loads(line)["ready"], errors
    assert server.returncode == 0


@pytest.mark.parametrize("line", lines("sh"))
def test_a_command_runs(line, bin_dir, model, cluster, tmp_path):
    program, *arguments = shlex.split(localise(line, model, cluster))
    command = [os.path.join(bin_dir, program), *arguments]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    if arguments[0] == "serve" and arguments[1] != "api_client":
        serve(command, environment)
        return
    done = run(command, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() and "error" not in done.stdout


@pytest.mark.parametrize("line", lines("sh refused"))
def test_what_berth_lacks_is_named(line, bin_dir, tmp_path):
    words = shlex.split(line)
    done = run([os.path.join(bin_dir, words[0]), *words[1:]])
    assert done.returncode == 3
    assert re.fullmatch(r"berth: .+: Berth has no .+\n", done.stderr), done.stderr


@pytest.mark.parametrize("program", [text for language, text in BLOCKS if language == "python"])
def test_a_program_runs(program, bin_dir, model, cluster):
    environment = {**os.environ, "PATH": bin_dir + os.pathsep + os.environ["PATH"]}
    done = run([sys.executable, "-c", localise(program, model, cluster)], env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
