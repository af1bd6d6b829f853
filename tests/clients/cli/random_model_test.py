#!/usr/bin/env python3
"""A model of which there is only a config.json is served with random weights. usage: random_model_test.py PATH_OF_BERTH"""
import contextlib
import os
import pathlib
import pty
import subprocess
import sys

CONFIG = pathlib.Path(__file__).resolve().parents[2] / "golden" / "models" / "tiny" / "llama"


def chat(berth, seed, *more):
    flags = [f"--worker-flag={flag}" for flag in ("--load-format=random", f"--seed={seed}")]
    return [berth, "chat", CONFIG, "--workers", "1", "--device", "cpu", *flags, *more, "--prompt", "hi", "--max-tokens", "12", "--temperature", "0"]


def answer(berth, seed, *more):
    return subprocess.run(chat(berth, seed, *more), check=True, capture_output=True).stdout


def shown(command):
    """What a terminal at standard error shows until the program has said its first word."""
    terminal, other_end = pty.openpty()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=other_end) as started:
        os.close(other_end)
        assert started.stdout.readline()
    text = b""
    with open(terminal, "rb", buffering=0) as file, contextlib.suppress(OSError):  # how the end of a terminal shows
        while data := file.read(65536):
            text += data
    return text.decode()


def check_progress(berth):
    ports = [word for name in ("--port", "--grpc-port", "--admin-port", "--metrics-port") for word in (name, "0")]
    serve = [berth, "serve", CONFIG, "--device", "cpu", "--workers", "2", "--worker-flag=--load-format=random", "--stop-with-stdin", *ports]
    full = "[" + 50 * "=" + "] 100 % of the weights\x1b[K\r"
    for command in (serve, chat(berth, 1)):
        assert full in shown(command), command
    quiet = subprocess.run(chat(berth, 1), check=True, capture_output=True)
    assert b"weights" not in quiet.stderr and b"loaded_percent" not in quiet.stdout
    quiet = subprocess.run(serve, input=b"", check=True, capture_output=True)
    assert b"of the weights" not in quiet.stderr and b"loaded_percent" not in quiet.stdout


def main(berth):
    first = answer(berth, 1)
    assert first.strip(), "no answer"
    assert answer(berth, 1) == first, "another answer from the same seed"
    assert answer(berth, 2) != first, "the same answer from another seed"
    assert answer(berth, 1, "--chat-template=mistral") != first, "the same answer to another prompt"
    check_progress(berth)
    print("answered", first)


if __name__ == "__main__":
    main(sys.argv[1])
