#!/usr/bin/env python3
"""The worker's anonymous memory under a long load of the demo model: a gateway and one worker, streams with long prompts.

usage: memory_under_load.py [--model FILE.gguf] [--bin-dir build/cpu-release/bin] [--streams 8] [--requests 300] [--prompt-tokens N] [--max-tokens N]

Prompts are all different, so that the prefix cache turns over. Prints one JSON object: RssAnon of the worker in MiB when it was ready, after each
tenth of the requests, and at its highest (sampled after every request, with the kernel's own high-water mark beside it).
"""
import argparse
import concurrent.futures
import glob
import json
import os
import random
import re
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "cluster"))

import processes  # noqa: E402

WORDS = "harbour lantern quiet seven running copper window the of and under because never blue".split()


def memory(pid, what):
    """Of /proc/PID/status, in MiB."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return int(re.search(rf"{what}:\s+(\d+) kB", status.read())[1]) / 1024


def load(cluster, args):
    """Runs the requests; the figures."""
    worker = cluster.workers["w0"].child.pid
    name = cluster.workers["w0"].ready["model"]
    samples, tokens = [memory(worker, "RssAnon")], 0

    def run(i):
        draw = random.Random(i)
        prompt = " ".join(draw.choices(WORDS, k=draw.randint(args.prompt_tokens // 10, args.prompt_tokens)))
        body = {"model": name, "prompt": prompt, "max_tokens": args.max_tokens, "ignore_eos": True, "seed": i}
        connection, response = cluster.open_stream(dict(body, stream_options={"include_usage": True}))
        usage = json.loads([line for line in response if line.startswith(b"data: {")][-1][6:])["usage"]
        connection.close()
        samples.append(memory(worker, "RssAnon"))
        return usage["prompt_tokens"] + usage["completion_tokens"]

    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(args.streams) as pool:
        for used in pool.map(run, range(args.requests)):
            tokens += used
    tenth = max(1, args.requests // 10)
    return {"requests": args.requests, "streams": args.streams, "tokens": tokens, "seconds": round(time.monotonic() - start),
            "rss_anon_mib": {"ready": round(samples[0]), "each_tenth": [round(s) for s in samples[tenth::tenth]],
                             "highest": round(max(samples))},
            "vm_hwm_with_mapped_file_mib": round(memory(worker, "VmHWM"))}  # fmt: skip


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default=next(iter(glob.glob(os.path.join(ROOT, ".cache/models/*.gguf"))), None))
    parser.add_argument("--bin-dir", default=os.path.join(ROOT, "build/cpu-release/bin"))
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--prompt-tokens", type=int, default=1500, help="the longest; lengths are uniform from a tenth of it")
    parser.add_argument("--max-tokens", type=int, default=32)
    args = parser.parse_args()
    if args.model is None:
        sys.exit("no model in .cache/models: run deploy/get-demo-model")

    processes.WAIT_SECONDS = 600  # a prompt may wait for all the others
    with tempfile.TemporaryDirectory() as folder:
        cluster = processes.Cluster(args.bin_dir, folder, workers=1, worker_arguments=("--model", args.model))
        try:
            figures = load(cluster, args)
        finally:
            cluster.stop()
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
