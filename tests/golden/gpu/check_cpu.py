#!/usr/bin/env python3
"""Holds the engine on a GPU against the CPU's on a text: argmax may differ at 1 % of the positions, where the CPU's two logits are close.

usage: check_cpu.py SCORE MODEL TOKENS FOLDER [DTYPE...]

DTYPE is float16, the default and what a quantised GGUF file runs in, or bfloat16. SCORE is the program made of score.cc beside this file, TOKENS a file of token ids, FOLDER takes the logits. Needs numpy.
"""
import os
import subprocess
import sys

import numpy as np

WAYS = ["whole", "chunks", "steps"]
SHARE, GAP = 0.01, 0.1


def score(program, model, tokens, folder, device, dtype, ways):
    out = os.path.join(folder, device)
    command = [program, model, tokens, out, "--device", device, "--dtype", dtype, "--ways", ",".join(ways)]
    subprocess.run(command, check=True)
    count = len(open(tokens, encoding="utf-8").read().split())
    return {way: np.fromfile(f"{out}.{way}", np.float32).reshape(count, -1) for way in ways}


def main(program, model, tokens, folder, *dtypes):
    os.makedirs(folder, exist_ok=True)
    cpu = score(program, model, tokens, folder, "cpu", "bfloat16", ["whole"])["whole"]
    passed = [compare(dtype, way, cpu, gpu) for dtype in dtypes or ["float16"]
              for way, gpu in score(program, model, tokens, folder, "cuda", dtype, WAYS).items()]
    return 0 if all(passed) else 1


def compare(dtype, way, cpu, gpu):
    best, other, rows = cpu.argmax(1), gpu.argmax(1), np.arange(len(cpu))
    gaps = (cpu[rows, best] - cpu[rows, other])[other != best]
    largest = gaps.max(initial=0)
    print(f"{dtype}, {way}: {len(gaps)} of {len(cpu)} positions differ ({100 * len(gaps) / len(cpu):.2f} %), by at most {largest:.4f}, "
          f"{(gaps >= GAP).sum()} by {GAP} or more; logits differ by {np.abs(gpu - cpu).mean():.4f} on average")
    return len(gaps) <= SHARE * len(cpu) and largest < GAP


if __name__ == "__main__":
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
