#!/usr/bin/env python3
"""Shows that the tests bite: breaks the lines of tests/bite.json one at a time and expects a test program to turn red.

usage: tests/bite.py [NAME…]      about half a minute a break on two cores; works in build/bite, on a copy of the tree

Each entry of tests/bite.json: name, file, `find` (occurs exactly once in the file), `replace`, `test` (the program that must fail)
and maybe `filter` (for --gtest_filter).
"""
import json
import os
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COPY = os.path.join(ROOT, "build", "bite", "tree")
BUILD = os.path.join(ROOT, "build", "bite", "build")


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, **options)


def copy_tree():
    files = run(["git", "ls-files", "-z"], cwd=ROOT, check=True).stdout.split("\0")
    for name in filter(None, files):
        source, target = os.path.join(ROOT, name), os.path.join(COPY, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not os.path.exists(target) or open(source, "rb").read() != open(target, "rb").read():
            shutil.copy2(source, target)
    cache = os.path.join(COPY, ".cache")
    if os.path.isdir(os.path.join(ROOT, ".cache")) and not os.path.exists(cache):
        os.symlink(os.path.join(ROOT, ".cache"), cache)


def build(test):
    return run(["cmake", "--build", BUILD, "-j", str(os.cpu_count()), "--target", test, "--", "--quiet"])


def red(entry):
    """Why the tests caught the break, or None."""
    if build(entry["test"]).returncode != 0:
        return None
    command = [os.path.join(BUILD, "bin", entry["test"])]
    if "filter" in entry:
        command.append("--gtest_filter=" + entry["filter"])
    try:
        done = run(command, cwd=COPY, timeout=300)
    except subprocess.TimeoutExpired:
        return "hangs"
    if done.returncode == 0:
        return None
    failed = [line for line in done.stdout.splitlines() if line.startswith("[  FAILED  ]")]
    return failed[0][13:].split(" (")[0] if failed else f"exit {done.returncode}"


def main():
    entries = json.load(open(os.path.join(ROOT, "tests", "bite.json"), encoding="utf-8"))
    if len(sys.argv) > 1:
        entries = [entry for entry in entries if entry["name"] in sys.argv[1:]]
    copy_tree()
    subprocess.run(["cmake", "-G", "Ninja", "-S", COPY, "-B", BUILD, "-DCMAKE_BUILD_TYPE=Debug"], check=True, stdout=subprocess.DEVNULL)
    missed = 0
    for entry in entries:
        start = time.monotonic()
        path = os.path.join(COPY, entry["file"])
        whole = open(path, encoding="utf-8").read()
        if whole.count(entry["find"]) != 1:
            sys.exit(f"{entry['name']}: {entry['find']!r} occurs {whole.count(entry['find'])} times in {entry['file']}")
        open(path, "w", encoding="utf-8").write(whole.replace(entry["find"], entry["replace"]))
        try:
            caught = red(entry)
        finally:
            open(path, "w", encoding="utf-8").write(whole)
        missed += caught is None
        print(f"{entry['name']:32} {'red: ' + caught if caught else 'NOT CAUGHT'}  ({time.monotonic() - start:.0f} s)", flush=True)
    print(f"{len(entries) - missed} passed, {missed} failed")
    sys.exit(missed > 0)


if __name__ == "__main__":
    main()
