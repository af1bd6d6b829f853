#!/usr/bin/env python3
"""Makes trace.json and arrivals.json: requests like those of shared chat conversations.

usage: trace.py lengths [requests] > trace.json          [prompt, output] tokens of each of 2,000 requests
       trace.py arrivals [requests] > arrivals.json      times of 800 Poisson arrivals, in units of the mean gap
       trace.py check                                    compares with the digests of the trace that the peers were measured with
needs: numpy

Lengths are log-normal with sigma 1, clipped to 4 … 1024; the means after the clip are about 225 (prompt) and 210 (output). They
are drawn from a pool of fixed size, so that the first requests are the same however many are asked for.
"""
import hashlib
import json
import sys

import numpy as np

POOL = 4096
MU_PROMPT, MU_OUTPUT = 5.02, 4.87
DIGESTS = {1000: "8d599f00de28b336", 2000: "6dd7740aedc499a6"}  # SHA-256 of the JSON of with_ids(n, 32000), first 16 digits


def lengths(requests, seed=0):
    assert requests <= POOL
    random = np.random.Generator(np.random.PCG64(seed))
    normal = [random.standard_normal(POOL) for _ in range(2)]
    drawn = [np.clip(np.rint(np.exp(mu + z)), 4, 1024).astype(int) for mu, z in zip((MU_PROMPT, MU_OUTPUT), normal)]
    return [[int(p), int(o)] for p, o in zip(*drawn)][:requests]


def with_ids(requests, vocab, seed=0):
    """The trace with prompts: ids 3 … vocab - 1, independent of the lengths."""
    random = np.random.Generator(np.random.PCG64(seed + 1))
    return [(random.integers(3, vocab, p).tolist(), o) for p, o in lengths(requests, seed)]


def arrivals(requests, seed=11):
    random = np.random.Generator(np.random.PCG64(seed))
    return [round(float(t), 6) for t in np.cumsum(random.exponential(1.0, requests))]


def check():
    for requests, digest in DIGESTS.items():
        found = hashlib.sha256(json.dumps(with_ids(requests, 32000)).encode()).hexdigest()[:16]
        assert found == digest, f"{requests} requests: {found}, want {digest}"
        prompts, outputs = np.array(lengths(requests)).sum(axis=0)
        print(f"{requests} requests: {prompts} tokens in, {outputs} out, digest {digest}")


def main():
    command, count = (sys.argv[1] if len(sys.argv) > 1 else ""), int(sys.argv[2]) if len(sys.argv) > 2 else None
    if command == "lengths":
        print(json.dumps(lengths(count or 2000)))
    elif command == "arrivals":
        print(json.dumps(arrivals(count or 800)))
    elif command == "check":
        check()
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
