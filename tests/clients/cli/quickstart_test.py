#!/usr/bin/env python3
"""What deploy/quickstart decides, with stand-ins for what it calls. usage: quickstart_test.py [unittest's arguments]"""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

QUICKSTART = pathlib.Path(__file__).resolve().parents[3] / "deploy" / "quickstart"


CHAT = "<chat></models/demo.gguf><--workers><2><--temperature><0.2><--top-p><0.9>"


class QuickstartTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        (self.root / "deploy").mkdir()
        shutil.copy(QUICKSTART, self.root / "deploy")
        self.script("deploy/install-packages", 'echo "packages from $*"')
        self.script("deploy/get-demo-model", "echo /models/demo.gguf")
        self.script("bin/cmake", 'echo "cmake $*" >> calls')
        self.script("bin/nvidia-smi", "exit 9")
        for preset in ("cpu-release", "cuda-release"):
            self.script(f"build/{preset}/bin/berth", f'echo {preset}; printf "<%s>" "$@"')

    def script(self, name, body):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n" + body + "\n")
        path.chmod(0o755)

    def run_it(self, *arguments):
        environment = {"PATH": f"{self.root}/bin:/usr/bin:/bin", "CUDA_HOME": f"{self.root}/cuda"}
        return subprocess.run([self.root / "deploy" / "quickstart", *arguments], env=environment, cwd="/", capture_output=True, text=True)

    def test_what_it_starts(self):
        for arguments, started in [([], CHAT),
                                   (["--prompt", "why, 'so'?"], CHAT + "<--prompt><why, 'so'?>"),
                                   (["--serve"], "<serve></models/demo.gguf><--workers><2>")]:
            ended = self.run_it(*arguments)
            self.assertEqual(ended.stdout, "cpu-release\n" + started)
            self.assertEqual(ended.returncode, 0)
        self.assertIn("packages from deploy/packages.txt", ended.stderr)
        calls = (self.root / "calls").read_text().split("\n")
        self.assertEqual(calls[0], "cmake --preset cpu-release")
        self.assertRegex(calls[1], "^cmake --build --preset cpu-release --parallel [0-9]+ --target berth berth-gateway berth-worker$")

    def test_wrong_arguments_show_the_right_ones(self):
        for arguments in (["--prompt"], ["--serve", "x"], ["--prompt", "a", "b"], ["hello"]):
            ended = self.run_it(*arguments)
            self.assertEqual(ended.returncode, 2)
            self.assertIn("--prompt TEXT", ended.stderr)
            self.assertFalse((self.root / "calls").exists())

    def test_it_builds_for_the_gpu_only_where_it_can(self):
        self.assertIn("building for the CPU: no NVIDIA GPU here\n", self.run_it().stderr)
        self.script("bin/nvidia-smi", "echo GPU 0: a fast one")
        self.assertIn("no CUDA toolkit", self.run_it().stderr)
        self.script("cuda/bin/nvcc", "")
        self.assertEqual(self.run_it().stdout.split("\n")[0], "cuda-release")

    def test_a_step_that_fails_ends_it_and_shows_why(self):
        self.script("bin/cmake", "echo no compiler; exit 1")
        ended = self.run_it()
        self.assertEqual(ended.returncode, 1)
        self.assertIn("no compiler", ended.stderr)
        self.assertEqual(ended.stdout, "")
        self.script("bin/cmake", "")
        self.script("deploy/get-demo-model", "exit 5")
        self.assertEqual(self.run_it().returncode, 5)


if __name__ == "__main__":
    unittest.main()
