#!/usr/bin/env python3
"""A model of which there is only a config.json is served with random weights. usage: random_model_test.py PATH_OF_BERTH"""
import pathlib
import subprocess
import sys

CONFIG = pathlib.Path(__file__).resolve().parents[2] / "golden" / "models" / "tiny" / "llama"


def answer(berth, seed, *more):
    flags = [f"--worker-flag={flag}" for flag in ("--load-format=random", f"--seed={seed}")]
    command = [berth, "chat", CONFIG, "--workers", "1", "--device", "cpu", *flags, *more, "--prompt", "hi", "--max-tokens", "12", "--temperature", "0"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def main(berth):
    first = answer(berth, 1)
    assert first.strip(), "no answer"
    assert answer(berth, 1) == first, "another answer from the same seed"
    assert answer(berth, 2) != first, "the same answer from another seed"
    assert answer(berth, 1, "--chat-template=mistral") != first, "the same answer to another prompt"
    print("answered", first)


if __name__ == "__main__":
    main(sys.argv[1])
