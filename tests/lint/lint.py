"""Checks of the source that no compiler makes. usage: lint.py CHECK BUILD_DIR, from the repository's root."""
import json
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

SOURCE_ROOTS = ["base", "proto", "kernels", "worker", "gateway", "clients", "tests"]


def sources(*endings):
    for root in SOURCE_ROOTS:
        for folder, _, files in os.walk(root):
            for name in sorted(files):
                if name.endswith(endings):
                    yield os.path.join(folder, name)


def run_all(commands):
    """Runs (name, command) pairs on two cores; returns what failed and said."""
    def one(item):
        done = subprocess.run(item[1], capture_output=True, text=True)
        return "" if done.returncode == 0 else f"{item[0]}:\n{done.stdout}{done.stderr}"
    with ThreadPoolExecutor(2) as pool:
        return [text for text in pool.map(one, commands) if text]


def compile_flags(build):
    """Include paths and language flags of any compiled file; Berth has one set for all."""
    for entry in json.load(open(f"{build}/compile_commands.json")):
        if "worker/engine/" in entry["file"]:
            words = shlex.split(entry["command"])
            return [word for word in words if word.startswith(("-std", "-D"))] + ["-I.", f"-I{build}/generated", f"-I{build}/generated/proto"]
    sys.exit("worker/engine is not in compile_commands.json")


def first_include(path):
    found = re.search(r'^#include "([^"]+)"', open(path, encoding="utf-8").read(), re.M)
    return found.group(1) if found else None


def check_format(build):
    files = list(sources(".h", ".cc", ".cu", ".cuh"))
    return run_all([("clang-format", ["clang-format", "--dry-run", "-Werror", *files[i::2]]) for i in range(2)])


def check_headers(build):
    """Every header compiles alone. One that is the first include of some source file already does."""
    proven = {first_include(path) for path in sources(".cc")}
    flags = compile_flags(build)
    alone = [path for path in sources(".h") if path not in proven and not path.startswith("kernels/cuda/")]  # nvcc sees those
    return run_all([(path, ["g++", "-fsyntax-only", "-Wno-pragma-once-outside-header", "-w", *flags, "-x", "c++", path]) for path in alone])


def check_locks(build):
    """Clang's thread-safety analysis over every file that locks."""
    flags = compile_flags(build)
    locking = [path for path in sources(".cc") if "base::MutexLock" in open(path, encoding="utf-8").read() and not path.startswith("tests/")]
    command = ["clang++", "-fsyntax-only", "-w", "-Wthread-safety", "-Werror=thread-safety", *flags]
    return run_all([(path, [*command, path]) for path in locking])


def check_proto(build):
    buf = next((path for path in [".venv/bin/buf"] if os.path.exists(path)), "buf")
    return run_all([("buf lint", [buf, "lint", "proto"])])


FORBIDDEN = [
    (r"\bsleep_for\b|\bSleepFor\b|\busleep\(", "sleeps"),
    (r"\bthread_local\b", "has hidden state"),
    (r"[^_a-z]getenv\(", "reads the environment"),
    (r"absl::Mutex\b|absl::Notification\b|absl/synchronization/", "locks with what ThreadSanitizer cannot see"),
    (r"#if 0", "is unfinished"),
    (r"DISABLED_", "switches a test off"),
]


def check_words(build):
    errors = []
    for path in sources(".h", ".cc", ".cu", ".cuh"):
        text = open(path, encoding="utf-8").read()
        if "#pragma once" not in text and path.endswith((".h", ".cuh")):
            errors.append(f"{path} lacks #pragma once")
        for pattern, what in FORBIDDEN:
            for line, content in enumerate(text.splitlines(), 1):
                if re.search(pattern, content.split("//")[0]) and not path.endswith(("main.cc", "rpc/process.cc")):
                    errors.append(f"{path}:{line} {what}: {content.strip()}")
    for root in SOURCE_ROOTS:
        for folder, _, files in os.walk(root):
            if folder.startswith("tests") or "__pycache__" in folder or not any(f.endswith((".h", ".cc", ".proto")) for f in files):
                continue
            readme = os.path.join(folder, "README.md")
            if folder.startswith("proto/") and not folder.startswith("proto/rpc"):
                continue
            if not os.path.exists(readme):
                errors.append(f"{folder} has no README.md")
            elif len(open(readme, encoding="utf-8").readlines()) > 20:
                errors.append(f"{readme} is longer than 20 lines")
    return errors


def check_families(build):
    """A family is one short file, and the decoder and its ops know no family: a scaling of rotary embeddings bears one's name."""
    families, shared = "worker/model/families/", ("common.cc", "rope.cc")
    texts = {path: open(path, encoding="utf-8").read() for path in sources(".h", ".cc", ".cu", ".cuh") if path.startswith(("worker/model", "kernels"))}
    errors = [f"{path} has more than 120 lines" for path, text in texts.items()
              if path.startswith(families) and not path.endswith(shared) and text.count("\n") > 120]
    names = {name for path, text in texts.items() if path.startswith(families)
             for name in re.findall(r'\.name = "(\w+)"|"(\w+(?:LM|Model|Generation))"', text) for name in name if name}
    if len(names) < 40:
        errors.append(f"only {len(names)} names of families and architectures were found")
    pattern = re.compile("|".join(sorted(names)), re.I)
    for path, text in texts.items():
        for line, content in enumerate(text.splitlines(), 1):
            found = pattern.search(content.split("//")[0].replace("Llama3", ""))
            if found and not path.startswith(families):
                errors.append(f"{path}:{line} knows {found.group()}")
    return errors


if __name__ == "__main__":
    failures = globals()[f"check_{sys.argv[1]}"](sys.argv[2])
    print("\n".join(failures) or "nothing found")
    sys.exit(bool(failures))
