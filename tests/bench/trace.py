#!/usr/bin/env python3
"""Makes trace.json: request lengths like those of shared chat conversations, one [prompt, output] pair of tokens per request.

usage: trace.py [requests] > trace.json        needs: numpy

Lengths are log-normal with sigma 1, clipped to 4 … 1024; the means after the clip are about 225 (prompt) and 210 (output). They
are drawn from a pool of fixed size, so that the first requests are the same however many are asked for.
"""
import json
import sys

import numpy as np

POOL = 4096
MU_PROMPT, MU_OUTPUT = 5.02, 4.87


def lengths(requests, seed=0):
    assert requests <= POOL
    random = np.random.Generator(np.random.PCG64(seed))
    normal = [random.standard_normal(POOL) for _ in range(2)]
    drawn = [np.clip(np.rint(np.exp(mu + z)), 4, 1024).astype(int) for mu, z in zip((MU_PROMPT, MU_OUTPUT), normal)]
    return [[int(p), int(o)] for p, o in zip(*drawn)][:requests]


if __name__ == "__main__":
    pairs = lengths(int(sys.argv[1]) if len(sys.argv) > 1 else 256)
    print(json.dumps(pairs))
    prompts, outputs = zip(*pairs)
    print(f"{len(pairs)} requests: prompt mean {np.mean(prompts):.1f}, output mean {np.mean(outputs):.1f}", file=sys.stderr)
