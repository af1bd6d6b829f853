"""Clusters that a program starts for itself, with a tiny model; none outlives it."""

import asyncio
import contextlib
import dataclasses
import os
import select
import shutil
import signal
import subprocess
import sys

import berth
import pytest

CONFIG = berth.GenerationConfig(max_new_tokens=8)
PROGRAM = """
import dataclasses, sys
import berth
model, program, flags, ending = sys.argv[1:]
config = berth.EngineConfig(device="cpu", program=program, worker_flags=flags.split())
pipe = berth.pipeline(model, config)
print(pipe("hello", berth.GenerationConfig(max_new_tokens=8)).generate_token_len, pipe.server.pid, flush=True)
if ending == "wait":
    for _ in pipe.stream_infer("hello", berth.GenerationConfig(max_new_tokens=200, ignore_eos=True)):
        pass
    sys.stdin.read()
if ending == "raise":
    raise KeyError("a fault of the program's own")
"""


def descendants(pid):
    """Handles of a process and all below it: each becomes readable when its process is gone."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        children = [int(child) for child in file.read().split()]
    return [os.pidfd_open(pid)] + [handle for child in children for handle in descendants(child)]


def wait_until_gone(handles):
    for handle in handles:
        assert select.select([handle], [], [], 60)[0], "a process is left"
        os.close(handle)


@pytest.mark.parametrize("ending", ["return", "raise", "kill", "interrupt"])
def test_no_process_is_left_however_the_program_ends(local, ending):
    model, config = local
    waits = ending in ("kill", "interrupt")
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        model,
        config.program,
        " ".join(config.worker_flags),
        "wait" if waits else ending,
    ]
    program = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    tokens, server = map(int, program.stdout.readline().split())
    assert tokens == 8
    if waits:
        handles = descendants(server)
        assert len(handles) == 3  # berth serve, a worker and a gateway
        program.send_signal(signal.SIGKILL if ending == "kill" else signal.SIGINT)
        wait_until_gone(handles)
    program.stdin.close()
    status = program.wait()
    program.stdout.close()
    assert (status == 0) == (ending == "return")
    assert not os.path.exists(f"/proc/{server}") or ending == "kill"


def test_an_own_cluster_answers_and_closing_it_ends_it(local):
    model, config = local
    with berth.pipeline(model, config) as pipe:
        handles = descendants(pipe.server.pid)
        greedy = pipe("hello", CONFIG)
        assert greedy.token_ids == pipe("hello", berth.GenerationConfig(max_new_tokens=8, do_sample=False)).token_ids
        sampled = [
            pipe("hello", berth.GenerationConfig(max_new_tokens=8, temperature=1.5, random_seed=i)).token_ids
            for i in range(4)
        ]
        assert len({tuple(ids) for ids in sampled}) > 1
        banned = berth.GenerationConfig(max_new_tokens=8, bad_token_ids=[greedy.token_ids[0]])
        assert greedy.token_ids[0] not in pipe("hello", banned).token_ids
    wait_until_gone(handles)
    with pytest.raises(berth.InvalidRequestError, match="closed"):
        pipe("hello")


@pytest.mark.parametrize("ending", [None, KeyError, asyncio.CancelledError])
def test_an_own_cluster_of_asyncio_ends_with_its_block(local, ending):
    handles, answers = [], []

    async def ask():
        async with berth.AsyncPipeline(*local) as pipe:
            handles.extend(descendants(pipe.server.pid))
            answers.append(await pipe("hello", CONFIG))
            if ending is not None:
                raise ending

    with contextlib.nullcontext() if ending is None else pytest.raises(ending):
        asyncio.run(ask())
    assert answers[0].generate_token_len == 8
    assert len(handles) == 3  # berth serve, a worker and a gateway
    assert select.select(handles, [], [], 0)[0] == handles, "they are gone when the block is left"
    wait_until_gone(handles)


def test_a_name_of_the_hub_is_looked_up_as_berth_serve_does(local, tmp_path, monkeypatch):
    model, config = local
    cached = tmp_path / "models--org--tiny"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0123abc")
    shutil.copytree(model, cached / "snapshots" / "0123abc")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))  # where no tool `hf` is
    with berth.pipeline("org/tiny", config) as pipe:
        assert pipe("hello", CONFIG).generate_token_len == 8
        assert [served.name for served in pipe.run(pipe.client.models())] == ["org/tiny"]
    with pytest.raises(berth.ServerStartError, match="hf download org/none"):
        berth.pipeline("org/none", config)


def test_a_cluster_is_served_as_its_config_says(local):
    model, config = local
    fields = {"dtype": "float16", "cache_max_entry_count": 0.01, "session_len": 64, "enable_prefix_caching": False}
    with berth.pipeline(model, dataclasses.replace(config, **fields)) as pipe:
        (served,) = pipe.run(pipe.client.models())
        assert served.context_length == 64
        assert pipe("hello", CONFIG).generate_token_len == 8
    for field, value, error in (("dtype", "f8", "--dtype is f8"), ("cache_max_entry_count", 2, "--cache-max-entry-count is 2")):
        with pytest.raises(berth.ServerStartError, match=error):
            berth.pipeline(model, dataclasses.replace(config, **{field: value}))


def test_a_cluster_that_does_not_start_says_why(local, tmp_path):
    config = local[1]
    (tmp_path / "config.json").write_text('{"architectures": ["TowerForCausalLM"]}')
    with pytest.raises(berth.ServerStartError, match="TowerForCausalLM"):
        berth.pipeline(str(tmp_path), config)
    with pytest.raises(berth.ServerStartError, match="cannot run /no/berth"):
        berth.pipeline(str(tmp_path), berth.EngineConfig(program="/no/berth"))


@pytest.mark.parametrize(
    "fields", [{"tp": 2}, {"quant_policy": 8}, {"model_format": "awq"}, {"rope_scaling_factor": 2.0}]
)
def test_what_berth_lacks_is_named(local, fields):
    ((name, value),) = fields.items()
    with pytest.raises(berth.UnsupportedError, match=f"{name}=.*{value}") as error:
        berth.pipeline(local[0], berth.EngineConfig(**fields))
    assert error.value.code == "UNIMPLEMENTED"
