"""A cluster on this machine: its configuration, and the `berth serve` that it is."""

from __future__ import annotations

import collections
import json
import os
import shutil
import subprocess
import threading
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from berth import errors
from berth.lmdeploy import EngineOptions, only

_LOG_LINES = 40
_STOP_SECONDS = 60


@dataclass
class EngineConfig(EngineOptions):
    """How to serve a model on this machine, with LMDeploy's names where it has them.

    None is the server's default. workers: processes, each with a GPU of its own where `device` says so. worker_flags,
    gateway_flags: handed on as they are. program: the `berth` to run; default: on PATH, else the newest of the
    checkout's builds. EngineOptions are LMDeploy's other fields; check() refuses by name what does not exist.
    """

    model_name: str | None = None
    model_format: str | None = only(None, "hf", "llama", "gguf", instead="pass a Hugging Face directory or a GGUF file")
    tp: int = only(1, what="tensor parallelism", instead="workers=N serves a copy on each GPU")
    workers: int = 1
    session_len: int | None = None
    max_batch_size: int | None = None
    cache_max_entry_count: float | None = None
    quant_policy: int = only(0, what="a quantised KV cache")
    rope_scaling_factor: float = only(0.0, instead="the model's config.json decides")
    enable_prefix_caching: bool = True
    device: str = "auto"
    dtype: str | None = None
    cpu_threads: int | None = None
    journal: str | None = None
    worker_flags: Sequence[str] = ()
    gateway_flags: Sequence[str] = ()
    program: str | None = None

    def arguments(self, model: str) -> list[str]:
        """The command line after `berth`."""
        self.check()
        flags = [
            "serve",
            model,
            "--ready-line",
            "--stop-with-stdin",
            "--workers",
            str(self.workers),
            "--device",
            self.device,
        ]
        for name in ("port", "grpc-port", "admin-port", "metrics-port"):
            flags += [f"--{name}", "0"]
        for name in (
            "model_name",
            "session_len",
            "max_batch_size",
            "cache_max_entry_count",
            "dtype",
            "cpu_threads",
            "journal",
        ):
            if getattr(self, name) is not None:
                flags += [f"--{name.replace('_', '-')}", str(getattr(self, name))]
        if not self.enable_prefix_caching:
            flags.append("--no-prefix-cache")
        flags += [f"--worker-flag={flag}" for flag in self.worker_flags]
        return flags + [f"--gateway-flag={flag}" for flag in self.gateway_flags]


def find_program(program: str | None) -> str:
    if program is not None:
        return program
    found = shutil.which("berth")
    if found is not None:
        return found
    builds = [path for parent in Path(__file__).resolve().parents for path in parent.glob("build/*-release/bin/berth")]
    if not builds:
        raise errors.ServerStartError(
            "the program `berth` is neither on PATH nor built in this checkout", code="NOT_FOUND"
        )
    return str(max(builds, key=os.path.getmtime))


class LocalServer:
    """A `berth serve` for a model on this machine. It and its children end with this process, however that ends: they
    watch the pipe that is their standard input. ServerStartError with the end of its log when it does not start."""

    def __init__(self, model: str, config: EngineConfig) -> None:
        command = [find_program(config.program), *config.arguments(model)]
        try:
            # A session of its own: a terminal's Ctrl-C is for this process.
            child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
            )
        except OSError as error:
            raise errors.ServerStartError(f"cannot run {command[0]}: {error.strerror}", code="NOT_FOUND") from None
        self._close = weakref.finalize(self, _stop, child)  # at exit too
        assert child.stdout is not None and child.stderr is not None
        log: collections.deque[str] = collections.deque(maxlen=_LOG_LINES)
        reader = threading.Thread(target=_drain, args=(child.stderr, log), name="berth log", daemon=True)
        reader.start()
        line = child.stdout.readline()
        if not line:
            reader.join()
            self.close()
            raise errors.ServerStartError(f"the server for {model} did not start:\n{''.join(log)}", code="UNAVAILABLE")
        ready = json.loads(line)
        self.pid = child.pid
        self.address = f"127.0.0.1:{ready['grpc_port']}"
        self.url = f"http://127.0.0.1:{ready['http_port']}"

    def close(self) -> None:
        """Returns when all its processes are gone."""
        self._close()


def _drain(errors_pipe: IO[bytes], log: collections.deque[str]) -> None:
    for line in errors_pipe:
        log.append(line.decode(errors="replace"))


def _stop(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None and child.stdout is not None
    child.stdin.close()
    try:
        child.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    child.stdout.close()
