#!/usr/bin/env python3
"""A model of which there is only a config.json is served with random weights. usage: random_model_test.py PATH_OF_BERTH"""
import pathlib
import subprocess
import sys

from terminal import run_on_terminal

CONFIG = pathlib.Path(__file__).resolve().parents[2] / "golden" / "models" / "tiny" / "llama"


def chat(berth, seed, *more):
    flags = [f"--worker-flag={flag}" for flag in ("--load-format=random", f"--seed={seed}")]
    return [berth, "chat", CONFIG, "--workers", "1", "--device", "cpu", *flags, *more, "--prompt", "hi", "--max-tokens", "12", "--temperature", "0"]


def answer(berth, seed, *more):
    return subprocess.run(chat(berth, seed, *more), check=True, capture_output=True).stdout


def check_progress(berth):
    ports = [word for name in ("--port", "--grpc-port", "--admin-port", "--metrics-port") for word in (name, "0")]
    serve = [berth, "serve", CONFIG, "--device", "cpu", "--workers", "2", "--worker-flag=--load-format=random", "--stop-with-stdin", *ports]
    full = "[" + 40 * "=" + "] 100 % of the weights\x1b[K\r"
    bench = [berth, "bench", "engine", CONFIG, "--load-format", "random", "--loads", "A:4/2", "--repeats", "2"]
    for command in (serve, chat(berth, 1), bench):
        said, shown = run_on_terminal(command)
        assert said and full in shown, command
    assert "measuring, 0 s, 0 of 3 requests\x1b[K\r" in shown, shown
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
