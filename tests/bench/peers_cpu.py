#!/usr/bin/env python3
"""Compares the engine on the CPU with llama.cpp: the same model file, threads and cases, runs interleaved.

usage: peers_cpu.py [--model FILE.gguf] [--bench build/cpu-release/bin/berth-bench] [--threads N] [--rounds N] [--python PYTHON]

llama-cpp-python comes from PyPI into a virtual environment under ~/.cache/berth-peers (a build from source, about ten minutes of one
core), unless --python names an interpreter that has it. It is built for the instructions that /proc/cpuinfo lists: what -march=native
takes a virtual machine's processor for may have more. Prints one JSON object; with no llama-cpp-python to be had it says so and measures
the engine alone.
"""
import argparse
import glob
import json
import os
import statistics
import subprocess
import sys
import venv

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACKAGE = "llama-cpp-python==0.3.36"

# Run in the interpreter that has llama_cpp. One round: the same cases as berth-bench, one warm-up each.
PEER = r"""
import json, random, sys, time
import llama_cpp
model, threads, decode_tokens, prompt_tokens = sys.argv[1], *map(int, sys.argv[2:5])
llama = llama_cpp.Llama(model_path=model, n_ctx=1024, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False)
random.seed(1)
def tokens(n): return [random.randrange(3, llama.n_vocab()) for _ in range(n)]
def greedy(): return int(llama_cpp.llama_sampler_sample(sampler, llama._ctx.ctx, -1))
sampler = llama_cpp.llama_sampler_init_greedy()
def decode():
    llama.reset(); llama.eval(tokens(8)); token = greedy(); start = time.monotonic()
    for _ in range(decode_tokens - 1): llama.eval([token]); token = greedy()
    return (decode_tokens - 1) / (time.monotonic() - start)
def prompt():
    llama.reset(); ids = tokens(prompt_tokens); start = time.monotonic(); llama.eval(ids); greedy()
    return prompt_tokens / (time.monotonic() - start)
result = {}
for name, case in (("decode_1", decode), ("prompt_%d" % prompt_tokens, prompt)):
    case(); result[name] = case()
print(json.dumps(result))
"""


# GGML's option → the flags of /proc/cpuinfo that it needs.
INSTRUCTIONS = {
    "GGML_AVX2": {"avx2"}, "GGML_FMA": {"fma"}, "GGML_F16C": {"f16c"}, "GGML_BMI2": {"bmi2"},
    "GGML_AVX512": {"avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"}, "GGML_AVX512_VNNI": {"avx512_vnni"},
}  # fmt: skip


def build_options():
    with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
        flags = set(next(line for line in cpuinfo if line.startswith("flags")).split())
    options = [f"-D{option}={'ON' if needs <= flags else 'OFF'}" for option, needs in INSTRUCTIONS.items()]
    return " ".join(["-DGGML_NATIVE=OFF", "-DLLAVA_BUILD=OFF", *options])


def peer_python():
    home = os.path.expanduser("~/.cache/berth-peers/venv")
    python = os.path.join(home, "bin", "python")
    if not os.path.exists(python):
        venv.create(home, with_pip=True)
    if subprocess.run([python, "-c", "import llama_cpp"], capture_output=True).returncode != 0:
        print(f"building {PACKAGE}", file=sys.stderr)
        environment = {"CMAKE_ARGS": build_options(), "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count()), **os.environ}
        subprocess.run([python, "-m", "pip", "install", "-q", PACKAGE], check=True, env=environment)
    return python


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default=next(iter(glob.glob(os.path.join(ROOT, ".cache/models/*.gguf"))), None))
    parser.add_argument("--bench", default=os.path.join(ROOT, "build/cpu-release/bin/berth-bench"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--decode-tokens", type=int, default=128)
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--python")
    args = parser.parse_args()
    if args.model is None:
        sys.exit("no model in .cache/models: run deploy/get-demo-model")
    try:
        python = args.python or peer_python()
    except subprocess.CalledProcessError as error:
        print(f"llama.cpp skipped: {error}", file=sys.stderr)
        python = None

    sizes = [str(args.threads), str(args.decode_tokens), str(args.prompt_tokens)]
    runs = {"berth": [], "llama.cpp": []}
    for _ in range(args.rounds):
        ours = subprocess.run([args.bench, args.model, "--cpu-threads", sizes[0], "--decode-tokens", sizes[1], "--prompt-tokens",
                               sizes[2], "--repeats", "1", "--trace-requests", "0"], check=True, capture_output=True, text=True)
        runs["berth"].append({name: figure["median"] for name, figure in json.loads(ours.stdout)["figures"].items()})
        if python:
            theirs = subprocess.run([python, "-c", PEER, args.model, *sizes], capture_output=True, text=True)
            if theirs.returncode != 0:
                print(f"llama.cpp skipped: it ended with {theirs.returncode}\n{theirs.stderr[-500:]}", file=sys.stderr)
                python = None
                continue
            runs["llama.cpp"].append(json.loads(theirs.stdout.splitlines()[-1]))
    table = {}
    for engine, rounds in runs.items():
        for name in rounds[0] if rounds else ():
            values = [figures[name] for figures in rounds]
            table.setdefault(name, {})[engine] = {"median": round(statistics.median(values), 1), "low": round(min(values), 1),
                                                  "high": round(max(values), 1)}
    print(json.dumps({"unit": "tok/s", "threads": args.threads, "rounds": args.rounds, "figures": table}, indent=2))


if __name__ == "__main__":
    main()
