"""docs/migrating_from_lmdeploy.md: every line that can be run is run."""

import array
import contextlib
import hashlib
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys

import berth
import pytest
from berth import turbomind as tm
from conftest import ROOT, TINY_MODEL
from processes import Process, free_port

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
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 4224}))  # of LMDeploy's grid
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
def port(bin_dir, model, tmp_path_factory):
    """That of HTTP of a server; the others follow it."""
    command = ["serve", model, "--device", "cpu", "--model-name", "tiny", "--port", free_port(4), "--ready-line"]
    log = tmp_path_factory.mktemp("served") / "log"
    server = Process(os.path.join(bin_dir, "berth"), *command, log=log)
    yield server.ready["http_port"]
    server.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the commands run, one after another, with the files that they name."""
    folder = tmp_path_factory.mktemp("work")
    digest = hashlib.sha256(b"my-secret-key").hexdigest()
    (folder / "keys.txt").write_text(f"tenant acme requests-per-minute=600\nkey sha256:{digest} acme\n")
    certificate = "req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out cert.pem"
    subprocess.run(["openssl", *certificate.split()], cwd=folder, check=True, capture_output=True)
    return folder


def localise(text, model, port):
    """The page's names and ports are this test's."""
    text = text.replace("path/to/model", model)
    return re.sub(r"127\.0\.0\.1:2333(\d)", lambda at: f"127.0.0.1:{port - 3 + int(at[1])}", text)


def run(command, **options):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)


def begin(command, **options):
    """Waits until a program says something, and stops it."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options) as program:
        said = program.stdout.readline()
        program.terminate()
    return said


def serve(command, **options):
    """Starts a server on free ports, waits until it is ready and stops it."""
    ports = [i + 1 for i, word in enumerate(command) if word in ("--server-port", "--server_port", "--port")]
    for i in ports:
        command[i] = "0"
    command += [*([] if ports else ["--port", "0"]), "--ready-line", "--stop-with-stdin"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    ) as server:
        line = server.stdout.readline()
        _, errors = server.communicate()
    assert line and json.loads(line)["ready"], errors
    assert server.returncode == 0


@pytest.mark.parametrize("line", lines("sh"))
def test_a_command_runs(line, bin_dir, model, port, folder):
    program, *arguments = shlex.split(localise(line, model, port))
    command = [shutil.which(program, path=bin_dir + os.pathsep + os.environ["PATH"]), *arguments]
    options = {"cwd": folder, "env": {**os.environ, "TMPDIR": str(folder), "HOME": str(folder)}}
    if arguments[0] == "serve" and arguments[1] != "api_client":
        serve(command, **options)
    elif program == "berth-gateway":
        ports = [word for name in ("http", "grpc", "admin", "metrics") for word in (f"--{name}-port", "0")]
        assert json.loads(begin([*command, *ports], **options))["ready"]
    elif "generation" in arguments:  # the whole grid takes minutes
        assert begin(command, **options).startswith("1 x 1/128 ")
    else:
        done = run(command, **options)
        assert done.returncode == 0, done.stderr
        # An answer of random weights may be blank.
        assert (done.stdout or "log-level" in arguments) and "error" not in done.stdout


def test_shares_of_two_gpus_are_refused(bin_dir, model, tmp_path):
    run([os.path.join(bin_dir, "berth"), "convert", model, "--dst-path", tmp_path / "w", "--tp", "2"], check=True)
    done = run([os.path.join(bin_dir, "berth"), "serve", tmp_path / "w", "--port", "0", "--grpc-port", "0"])
    assert done.returncode == 1 and "is converted for 2 ranks, and 1 run it" in done.stderr


def test_what_the_tables_name_is_run():
    with open(PAGE, encoding="utf-8") as page:
        rows = [line for line in page if line.startswith("|")]
    spans = [span for row in rows for span in re.findall(r"`([^`]+)`", row) if not span.startswith("benchmark/")]
    told = [line.replace("_", "-") for line in lines("sh") + lines("sh refused")]
    for span in spans:
        command = re.match(r"(lmdeploy|berth)((-| [a-z])[a-z_-]*)+", span)
        if command:
            words = command[0].replace("lmdeploy", "berth").replace("_", "-").split()
            assert any(set(words) <= set(one.split()) for one in told), span
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z_-]*", span):
            assert any(re.search(flag.replace("_", "-") + "(?![a-z-])", one) for one in told), span
        if endpoint := re.match("(GET|POST) (/.*)", span):
            assert any(one.partition("?")[0].split()[2].endswith(endpoint[2]) for one in told if one.startswith("curl")), span


@pytest.mark.parametrize("line", lines("sh refused"))
def test_what_berth_lacks_is_named(line, bin_dir, tmp_path):
    words = shlex.split(line)
    done = run([os.path.join(bin_dir, words[0]), *words[1:]])
    assert done.returncode == 3
    assert re.fullmatch(r"berth: .+: Berth has no .+\n", done.stderr), done.stderr


@pytest.mark.parametrize("line", lines("python refused"))
def test_what_the_package_lacks_is_named(line, model, port):
    with pytest.raises(berth.UnsupportedError):
        exec(localise(line, model, port), {**vars(berth), "image": object()})


TAKEN = {
    berth.EngineConfig: [
        {"max_prefill_token_num": 4096, "cache_block_seq_len": 128, "cache_chunk_size": 8, "cache_prompt": "all"},
        {"cache_prompt_boundary_skip": 2, "cache_generation": "none", "cache_checkpoint_interval": 64, "async_": 0},
        {"communicator": "native", "language_model_only": True, "enable_metrics": False, "devices": [0], "attn_tp_size": 1},
    ],
    berth.GenerationConfig: [{"logits_processors": None, "output_logits": None, "repetition_ngram_size": 0}],
}
REFUSED = {
    berth.EngineConfig: dict.fromkeys(
        ["tp", "dp", "cp", "ep", "nnodes", "node_rank", "device_num", "attn_tp_size", "attn_cp_size", "attn_dp_size",
         "mlp_tp_size", "mlp_dp_size", "outer_dp_size", "num_tokens_per_iter", "max_prefill_iters", "rope_scaling_factor"], 2,
    ) | {"quant_policy": 8, "model_format": "awq", "devices": [0, 1], "dist_init_addr": "h:1", "download_dir": "d",
         "revision": "v2", "hf_overrides": {"a": 1}, "use_logn_attn": True, "empty_init": True},
    berth.GenerationConfig: {"logits_processors": [print], "output_logits": "all", "output_last_hidden_state": "all",
        "return_ppl": True, "return_routed_experts": True, "with_cache": True, "preserve_cache": True,
        "migration_request": object(), "repetition_ngram_size": 3, "repetition_ngram_threshold": 2,
        "spaces_between_special_tokens": False},
}  # fmt: skip


def test_options_of_lmdeploy_are_taken_or_refused_by_name(port):
    for config, taken in TAKEN.items():
        for fields in taken:
            config(**fields).check()
        for name, value in REFUSED[config].items():
            with pytest.raises(berth.UnsupportedError, match=f"^{name}="):
                config(**{name: value}).check()
    address = f"127.0.0.1:{port + 1}"
    options = {"log_level": "INFO", "max_log_len": 8, "trust_remote_code": True, "allowed_media_domains": ["a.example"]}
    with berth.pipeline(address, model_name="tiny", chat_template_config=None, **options) as pipe:
        assert pipe("Hi", berth.GenerationConfig(max_new_tokens=2, ignore_eos=True)).generate_token_len == 2
        with pytest.raises(berth.UnsupportedError, match="^output_logits='all'"):
            pipe("Hi", berth.GenerationConfig(output_logits="all"))
    for name in ("chat_template_config", "speculative_config"):
        with pytest.raises(berth.UnsupportedError, match=f"^{name}="):
            berth.pipeline(address, **{name: object()})
        with pytest.raises(berth.UnsupportedError, match=f"^{name}="):
            tm.TurboMind.from_pretrained(address, **{name: object()})
    with contextlib.closing(tm.TurboMind.from_pretrained(address)) as tm_model:
        for name in ("input_embeddings", "input_embedding_ranges"):
            with pytest.raises(berth.UnsupportedError, match=f"^{name}="):
                list(tm_model.create_instance().stream_infer(0, [1], **{name: [[0.0]]}))


@pytest.mark.parametrize("program", [text for language, text in BLOCKS if language == "python"])
def test_a_program_runs(program, bin_dir, model, port):
    environment = {**os.environ, "PATH": bin_dir + os.pathsep + os.environ["PATH"]}
    done = run([sys.executable, "-c", localise(program, model, port)], env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout  # an answer of random weights may be blank
