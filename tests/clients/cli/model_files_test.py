#!/usr/bin/env python3
"""berth convert, list and inspect. usage: model_files_test.py PATH_OF_BERTH [unittest's arguments]"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

BERTH = pathlib.Path(sys.argv.pop(1)).resolve()
ROOT = pathlib.Path(__file__).resolve().parents[3]
TINY = ROOT / "tests" / "golden" / "models" / "tiny" / "llama" / "config.json"


def berth(*arguments, **environment):
    return subprocess.run([BERTH, *arguments], capture_output=True, text=True, env={**os.environ, **environment})


class ModelTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def output(self, *arguments, **environment):
        done = berth(*arguments, **environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def error(self, *arguments, **environment):
        done = berth(*arguments, **environment)
        self.assertEqual(done.returncode, 1, done.stdout)
        return done.stderr

    def cached_model(self, name):
        """A model that is only a config.json in a Hugging Face cache of this test's own."""
        model = self.folder / ("models--" + name.replace("/", "--"))
        (model / "refs").mkdir(parents=True)
        (model / "refs" / "main").write_text("0123abc")
        snapshot = model / "snapshots" / "0123abc"
        snapshot.mkdir(parents=True)
        shutil.copy(TINY, snapshot)
        return snapshot

    def test_list_names_families_and_formats(self):
        listed = json.loads(self.output("list", "--json"))
        self.assertIn("LlamaForCausalLM", listed["families"]["llama"])
        self.assertIn("workspace", listed["formats"])
        self.assertIn("LlamaForCausalLM", self.output("list"))

    def test_inspect_counts_memory(self):
        path = self.cached_model("org/tiny")
        report = json.loads(self.output("inspect", path, "--json", "--tp", "2", "--memory", "1MB"))
        config = json.loads(TINY.read_text())
        layers, heads, hidden = (config[key] for key in ("num_hidden_layers", "num_key_value_heads", "hidden_size"))
        self.assertEqual(report["spec"]["layers"], layers)
        head_dim = hidden // config["num_attention_heads"]
        self.assertEqual(report["kv"], {"dtype": "bf16", "ranks": 2, "bytes_per_token": 2 * 2 * layers * heads * head_dim // 2})
        self.assertGreater(report["weight_bytes"]["f32"]["1"], report["weight_bytes"]["bf16"]["1"])
        self.assertGreater(report["weight_bytes"]["bf16"]["1"], report["weight_bytes"]["bf16"]["2"])
        self.assertEqual(report["fits"]["context"], config["max_position_embeddings"])
        self.assertIn("tp 2", self.output("inspect", path))
        self.assertIn("and 1000 are given", self.error("inspect", path, "--memory", "1000"))

    def test_names_of_the_hub(self):
        self.cached_model("org/tiny")
        cache = {"HF_HUB_CACHE": str(self.folder), "PATH": "/usr/bin:/bin"}
        self.assertIn("llama", self.output("inspect", "org/tiny", **cache))
        self.assertIn("hf download org/other", self.error("inspect", "org/other", **cache))
        # A stand-in for Hugging Face's tool.
        tool = self.folder / "hf"
        tool.write_text(f'#!/bin/sh\n[ "$*" = "download org/other" ] || exit 3\necho fetching >&2\necho {self.cached_model("org/moved")}\n')
        tool.chmod(0o755)
        cache["PATH"] = f"{self.folder}:{cache['PATH']}"
        done = berth("inspect", "org/other", **cache)
        self.assertIn("llama", done.stdout)
        self.assertEqual(done.stderr, "fetching\n", "the tool's own progress")
        self.assertIn("exit code 3", self.error("inspect", "org/none", **cache))
        self.assertIn("no file or directory", self.error("inspect", "a/../b", **cache))

    def test_convert(self):
        models = list((ROOT / ".cache" / "models").glob("*.gguf"))
        if not models:
            self.skipTest("no .cache/models/*.gguf: deploy/quickstart downloads the demo model")
        workspace = self.folder / "workspace"
        done = berth("convert", models[0], "--dst-path", workspace)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("100 % of", done.stderr)
        self.assertIn("bytes of weights", done.stdout)
        direct, converted = (json.loads(self.output("inspect", path, "--json")) for path in (models[0], workspace))
        self.assertEqual(direct["name"], converted["name"])
        self.assertEqual(direct["spec"], converted["spec"])
        self.assertEqual([direct["kv"], converted["kv"]], 2 * [{"dtype": "f16", "ranks": 1, "bytes_per_token": 23040}])
        self.assertIn("dtype on a GPU: f16\n", self.output("inspect", models[0]))
        self.assertIn("dtype on a GPU: bf16\n", self.output("inspect", models[0], "--dtype", "bf16"))
        self.assertIn("already there", self.error("convert", models[0], "--dst-path", workspace))
        self.assertIn("no file or directory", self.error("convert", "no-such-model", "--dst-path", self.folder / "w"))


if __name__ == "__main__":
    unittest.main()
