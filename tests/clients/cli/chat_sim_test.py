#!/usr/bin/env python3
"""berth chat and berth serve with the real gateway and workers and the simulated engine.
usage: chat_sim_test.py PATH_OF_BERTH [unittest's arguments]"""
import contextlib
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
import urllib.request
import xml.etree.ElementTree

from terminal import run_on_terminal

sys.path.append(str(pathlib.Path(__file__).parents[2] / "cluster"))
from processes import free_port

BERTH = str(pathlib.Path(sys.argv.pop(1)).resolve())
PROMPT = "double enter to end input >>> "


class Chat:
    """A running `berth chat --sim`. All its processes inherit the writing end of a pipe, whose end of file says that none is left."""

    def __init__(self, folder, *flags):
        self.folder = folder
        self.gone, write_end = os.pipe()
        self.process = subprocess.Popen([BERTH, "chat", "--sim", "--workers", "2", *flags], pass_fds=[write_end], env={**os.environ, "TMPDIR": folder},
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        os.close(write_end)
        self.text = ""

    def type(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def read_until(self, done):
        """What it printed since the last call, once `done` likes it."""
        while not done(self.text):
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise AssertionError(f"it ended after {self.text!r}")
            self.text += data.decode(errors="replace")
        text, self.text = self.text, ""
        return text

    def ask(self, text):
        self.type(text + "\n\n")
        return self.read_until(lambda text: text.endswith(PROMPT))[:-len(PROMPT)].strip("\n")

    def wait_for_all(self):
        os.read(self.gone, 1)
        os.close(self.gone)


def workers_of(pid):
    """The berth-worker processes below a process."""
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = [int(child) for child in children if "berth-worker" in pathlib.Path(f"/proc/{child}/cmdline").read_text()]
    return found + [worker for child in children for worker in workers_of(int(child))]


class ChatSimTest(unittest.TestCase):
    def chat(self, *flags):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        chat = Chat(folder.name, *flags)
        self.addCleanup(chat.process.wait)
        self.addCleanup(chat.process.kill)
        self.addCleanup(chat.process.stdout.close)
        self.addCleanup(chat.process.stdin.close)
        return chat

    def test_prompt_answers_once_and_leaves_nothing(self):
        answers = []
        for _ in range(2):
            chat = self.chat("--prompt", "hello", "--max-tokens", "12", "--seed", "3", "--worker-flag=--sim-step-ms=1")
            answers.append(chat.process.stdout.read())
            self.assertEqual(chat.process.wait(), 0)
            chat.wait_for_all()
        self.assertGreater(len(answers[0].strip()), 3)
        self.assertEqual(answers[0], answers[1])

    def test_turns_sessions_and_exit(self):
        chat = self.chat("--max-tokens", "8", "--seed", "1", "--worker-flag=--sim-step-ms=1")
        chat.read_until(lambda text: text.endswith(PROMPT))
        first, second = chat.ask("hello"), chat.ask("hello")
        self.assertNotIn("error", first + second)
        self.assertNotEqual(first, second)  # the history counts
        chat.type("end\n")
        self.assertIn("the session is closed", chat.read_until(lambda text: text.endswith(PROMPT)))
        self.assertEqual(chat.ask("hello"), first)  # a fresh one does not remember
        chat.type("exit\n")
        self.assertEqual(chat.process.wait(), 0)
        chat.wait_for_all()

    def test_ctrl_c_stops_the_answer_only(self):
        chat = self.chat("--worker-flag=--sim-step-ms=20")
        chat.read_until(lambda text: text.endswith(PROMPT))
        chat.type("hello\n\n")
        chat.read_until(lambda text: len(text) > 5)  # without a limit the answer is thousands of tokens long
        chat.process.send_signal(signal.SIGINT)
        chat.read_until(lambda text: text.endswith(PROMPT))
        chat.type("and then\n\n")
        self.assertNotIn("error", chat.read_until(lambda text: len(text) > 5))

    def test_a_chat_that_is_killed_leaves_nothing(self):
        for number in (signal.SIGKILL, signal.SIGHUP):
            chat = self.chat()
            chat.read_until(lambda text: text.endswith(PROMPT))
            chat.process.send_signal(number)
            chat.wait_for_all()
            self.assertEqual(os.listdir(chat.folder), [])

    def test_a_frozen_worker_is_killed_and_the_chat_goes_on(self):
        chat = self.chat("--max-tokens", "8", "--seed", "1", "--worker-flag=--sim-step-ms=1")
        chat.read_until(lambda text: text.endswith(PROMPT))
        first = chat.ask("hello")
        for pid in workers_of(chat.process.pid):
            os.kill(pid, signal.SIGSTOP)
        # Both are frozen and are killed; the second turn finds new ones, which know the session from the journal, sooner or later.
        while "error" in (answer := chat.ask("hello")):
            pass
        self.assertNotEqual(answer, first)

    def test_a_worker_frozen_in_a_commit_is_killed_and_its_turn_ends_elsewhere(self):
        # Until it is killed it holds the journal's file, which its neighbour needs too.
        answers = []
        for fault in ([], ["--worker-flag=--sim-freeze-in-commit=3"]):
            chat = self.chat("--max-tokens", "8", "--seed", "1", "--worker-flag=--sim-step-ms=1", *fault)
            chat.read_until(lambda text: text.endswith(PROMPT))
            before = workers_of(chat.process.pid)
            answers.append([chat.ask("hello") for _ in range(4)])
            self.assertEqual(set(before) <= set(workers_of(chat.process.pid)), not fault, "no worker was hit")
        self.assertEqual(answers[0], answers[1])
        self.assertNotIn("error", "".join(answers[0]))

    def test_a_terminal_has_editing_and_a_history(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        terminal, other_end = pty.openpty()
        command = [BERTH, "chat", "--sim", "--max-tokens", "8", "--seed", "1", "--worker-flag=--sim-step-ms=1"]
        environment = {**os.environ, "HOME": folder.name, "TMPDIR": folder.name, "TERM": "xterm", "LC_ALL": "C.UTF-8"}
        chat = subprocess.Popen(command, stdin=other_end, stdout=other_end, stderr=subprocess.DEVNULL, env=environment)
        os.close(other_end)
        self.addCleanup(os.close, terminal)
        self.addCleanup(chat.wait)
        self.addCleanup(chat.kill)

        def ask(typed):
            text = b""
            while PROMPT.encode() not in text:
                text += os.read(terminal, 65536)
            os.write(terminal, typed.encode())
        ask("grüß\x7fß dich\n\n")
        ask("\x1b[A\n\n")  # the line above
        ask("exit\n")
        self.assertEqual(chat.wait(), 0)
        history = pathlib.Path(folder.name, ".berth_history")
        lines = history.read_bytes().decode("unicode_escape").encode("latin-1").decode().split("\n")[1:-1]
        self.assertEqual([line.strip() for line in lines if line != "exit"], ["grüß dich"] * (len(lines) - 1))
        self.assertEqual(history.stat().st_mode & 0o777, 0o600)

    def test_a_terminal_shows_how_long_the_start_takes(self):
        for command in (["chat", "--prompt", "hello", "--max-tokens", "2"], ["serve", "--stop-with-stdin", "--port", "0", "--grpc-port", "0",
                                                                            "--admin-port", "0", "--metrics-port", "0"]):
            said, shown = run_on_terminal([BERTH, *command, "--sim"])
            self.assertTrue(said)
            self.assertIn("starting, 0 s\x1b[K\r", shown)
            self.assertNotIn(b"starting, ", self.run_berth(*command, "--sim").stderr.encode())

    def run_berth(self, *arguments, typed=""):
        return subprocess.run([BERTH, *arguments], input=typed, capture_output=True, text=True)

    def test_exit_codes_tell_wrong_lines_from_what_does_not_exist(self):
        for arguments, code, words in ((["serve", "m", "--no-such-flag"], 2, "--no-such-flag"), (["chat", "--server", "nowhere"], 2, "nowhere"),
                                       (["serve"], 2, "--sim"), (["serve", "--sim", "--workers", "2", "--device", "cuda:0"], 2, "cuda:0"),
                                       (["chat", "127.0.0.1:1", "--generation", "{"], 2, "--generation"), (["chat", "127.0.0.1:1", "--prompt", "x"], 1, "connect"),
                                       (["serve", "m", "--tp", "2"], 3, "tensor parallelism"), (["chat", "127.0.0.1:1", "--prompt", b"caf\xe9"], 2, "--prompt: is not UTF-8"), (["completion", "fish"], 2, "fish"),
                                       (["convert", "m", "--nope"], 2, "--help"), (["inspect"], 2, "model"), (["list", "--nope"], 2, "--nope"), (["inspect", "m", "--dtype", "f8"], 2, "--dtype: f8 not in {auto,bf16,f16,f32}"),
                                       (["api_client"], 2, "server"), (["api_client", "nowhere"], 2, "nowhere"),
                                       (["bench", "engine", "--nope"], 2, "--help"), (["bench", "tune", "m"], 3, "this build has no"), (["bench", "throughput"], 2, "model")):
            ended = self.run_berth(*arguments)
            self.assertEqual(ended.returncode, code, ended.stderr)
            self.assertIn(words, ended.stdout + ended.stderr)

    def test_every_flag_of_lmdeploy_is_taken_or_named(self):
        # Lines that are wrong by what comes before the flags.
        chat, serve = (["chat", "--generation", "x"], "--generation: "), (["serve"], "want one of a model")
        for (line, error), flags in {
            "chat": (chat, "--backend turbomind,--chat-template c,--revision main,--revision r,--download-dir d,--trust-remote-code,--adapters a,"
                     "--device cuda,--eager-mode,--dllm-block-length 4,--prefix-cache-state-budget 0,--prefix-cache-decode-state-interval 0,"
                     "--dtype float16,--tp 1,--session-len 9,--cache-max-entry-count 0.8,--enable-prefix-caching,--quant-policy 0,"
                     "--language-model-only,--model-format hf,--rope-scaling-factor 0.0,--communicator nccl,--cp 1,--async 1,"
                     "--speculative-algorithm eagle,--speculative-draft-model m,--speculative-num-draft-tokens 1,--model-name m,--cap chat,"
                     "--meta-instruction m"),
            "api_server": (serve, "--server-name h,--server-port 1,--allow-origins *,--allow-credentials,--allow-methods *,--allow-methods GET PUT,"
                           "--allow-headers *,--proxy-url u,--max-concurrent-requests 9,--allowed-media-domains a b,--backend turbomind,"
                           "--log-level CRITICAL,--log-level FATAL,--log-level NOTSET,--api-keys k,--ssl,--model-name m,--max-log-len 9,"
                           "--disable-fastapi-docs,--allow-terminate-by-client,--enable-abort-handling,--trust-remote-code,--chat-template c,"
                           "--tool-call-parser qwen,--reasoning-parser qwen-qwq,--revision r,--download-dir d,--generation-config auto,"
                           "--generation-config f,--adapters a=b c=d,--device cuda,--eager-mode,--logprobs-mode raw_logits,--dllm-block-length 4,"
                           "--dllm-unmasking-strategy sequential,--dllm-denoising-steps 4,--dllm-confidence-threshold 0.85,"
                           "--enable-return-routed-experts,--distributed-executor-backend uni,--distributed-executor-backend ray,"
                           "--kernel-block-size -1,--prefix-cache-state-budget 1,--prefix-cache-decode-state-interval 1,--language-model-only,"
                           "--dtype auto,--tp 1,--session-len 9,--max-batch-size 9,--cache-max-entry-count 0.8,--cache-block-seq-len 64,"
                           "--enable-prefix-caching,--max-prefill-token-num 8192,--quant-policy 0,--model-format hf,--hf-overrides {},"
                           "--disable-metrics,--dp 1,--ep 1,--enable-microbatch,--enable-eplb,--role Hybrid,--role Decode,"
                           "--migration-backend DLSlime,--cudagraph-capture-batch-sizes 1 2,--node-rank 0,--nnodes 1,--cp 1,"
                           "--rope-scaling-factor 0.0,--num-tokens-per-iter 0,--max-prefill-iters 1,--async 1,--communicator nccl,"
                           "--dist-init-addr a,--vision-max-batch-size 1,--speculative-algorithm eagle,--speculative-draft-model m,"
                           "--speculative-num-draft-tokens 1,--qos-config-path q,--meta-instruction m,--cap chat,--share"),
            "api_client": ((["api_client", "nowhere"], "is neither"), "--api-key k,--session-id 1"),
            "convert": ((["convert", "/nowhere"], "/nowhere"), "--model-format hf,--tp 1,--tokenizer-path t,--dst-path d,--quant-path q,--group-size 0,"
                        "--revision r,--download-dir d,--chat-template c,--dtype float16"),
            "list": ((["list"], "llama"), "--engine turbomind,--engine pytorch"),
        }.values():
            for flag in flags.split(","):
                ended = self.run_berth(*line, *flag.split())
                if ended.returncode == 3:
                    self.assertRegex(ended.stderr, f"{flag.split()[0]}.*: Berth has no ")
                else:
                    self.assertIn(error, ended.stdout + ended.stderr, flag)

    def test_a_chat_of_no_terminal_fails_with_its_last_question(self):
        ended = self.run_berth("chat", "127.0.0.1:1", typed="hi\n\n")
        self.assertEqual(ended.returncode, 1)
        self.assertIn("berth: ", ended.stderr)
        self.assertNotIn("error", ended.stdout)

    def test_check_env_is_lines_or_json(self):
        told = self.run_berth("check-env").stdout
        as_json = json.loads(self.run_berth("check_env", "--json").stdout)
        self.assertEqual(told, "".join(f"{name}: {value}\n" for name, value in as_json.items()))
        self.assertRegex(as_json["Berth"], r"^\d+\.\d+")
        self.assertEqual(int(as_json["Cores"]), len(os.sched_getaffinity(0)))
        self.assertIn("GPUs", as_json)

    def test_bash_completes_commands_and_flags(self):
        def complete(*words):
            script = f'source <({BERTH} completion bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _berth; echo ${{COMPREPLY[@]}}'
            return subprocess.run(["bash", "-c", script, "bash", BERTH, *words], capture_output=True, text=True, check=True).stdout.split()

        def check(*path):
            """The command and all below it complete to what their help tells, whichever program reads them."""
            told = self.run_berth(*path, "--help").stdout
            self.assertIn("Exit codes: 0 done; 1 ", told)
            flags = {name for names in re.findall(r"^  (-\S+)", told, re.M) for name in names.split(",") if name.startswith("--")}
            self.assertEqual(set(complete(*path, "-")), flags, path)
            below = re.findall(r"^  (\w[\w-]+) ", told.partition("Subcommands:")[2], re.M)
            self.assertEqual(set(complete(*path, "")), set(below), path)
            return flags.union(*(check(*path, command) for command in below if command != "tune"))  # a program of builds with CUDA
        flags = check()
        for one in ("--version", "--ready-line", "--temperature", "--json", "--loads", "--concurrency", "--dst-path", "--memory", "--dump-file"):
            self.assertIn(one, flags)
        self.assertEqual(complete("comp"), ["completion"])
        self.assertEqual(complete("admin", "work"), ["workers"])
        self.assertEqual(complete("bench", "throughput", "model", "--rep"), ["--repeats"])
        self.assertEqual(complete("serve", "./some"), [])

    @unittest.skipUnless(shutil.which("zsh"), "no zsh")
    def test_zsh_completes_them_too(self):
        def typed(line):
            """What a zsh of a terminal makes of a line that was typed."""
            pid, terminal = pty.fork()
            if pid == 0:
                os.environ.update(PATH=f"{pathlib.Path(BERTH).parent}:{os.environ['PATH']}", TERM="dumb")
                os.execlp("zsh", "zsh", "-f", "-i")
            text = b""
            with open(terminal, "r+b", buffering=0) as file:
                file.write(b"source <(berth completion zsh); preexec() { print -r -- \"<$1>\"; exit }\n" + line.encode() + b"\n")
                with contextlib.suppress(OSError):  # how the end of a terminal shows
                    while data := file.read(65536):
                        text += data
            os.waitpid(pid, 0)
            return re.findall(r"<(berth .*)>", text.decode())[-1]
        self.assertEqual(typed("berth comp\t"), "berth completion")
        self.assertEqual(typed("berth inspect --mem\t"), "berth inspect --memory")
        self.assertEqual(typed("berth bench throughput --rep\t3"), "berth bench throughput --repeats 3")

    def test_the_programs_know_the_flags_that_serve_hands_on(self):
        flags = """--chat-template chatml --tool-call-parser none --session-len 99 --max-batch-size 3 --step-tokens 64 --dtype f16
                   --cache-max-entry-count 0.5 --kv-bytes 9999 --no-prefix-cache --batch-invariant --session-ttl 1.5 --max-sessions 2
                   --api-keys a b --allow-origins https://a.example https://b.example --http-request-seconds 5 --http-heartbeat-seconds 0.5
                   --http-threads 3 --max-streams 4 --max-waiting 0 --log-level warn --port 0 --grpc-port 0 --admin-port 0 --metrics-port 0"""
        with subprocess.Popen([BERTH, "serve", "--sim", "--ready-line", "--stop-with-stdin", *flags.split()], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as serve:
            ready = serve.stdout.readline()
            asked = ready and urllib.request.Request(f"http://127.0.0.1:{json.loads(ready)['http_port']}/v1/models",
                                                     headers={"Authorization": "Bearer b", "Origin": "https://b.example"})
            answer = ready and urllib.request.urlopen(asked)
            said = serve.communicate()[1]
        self.assertEqual((serve.returncode, bool(ready)), (0, True), said)
        self.assertEqual(answer.headers["Access-Control-Allow-Origin"], "https://b.example")

    def test_serve_answers_over_http_and_is_measured_over_grpc(self):
        serve = subprocess.Popen([BERTH, "serve", "--sim", "--ready-line", "--workers", "2", "--port", str(free_port(4)), "--model-name", "m"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.addCleanup(serve.stdout.close)
        self.addCleanup(serve.wait)
        self.addCleanup(serve.terminate)
        ready = json.loads(serve.stdout.readline())
        http = f"http://127.0.0.1:{ready['http_port']}"
        for arguments in (["chat", http, "--prompt", "hello", "--max-tokens", "4"],
                          ["api_client", http, "--session_id", "1", "--prompt", "hello", "--request_output_len", "4"]):
            self.assertGreater(len(self.run_berth(*arguments).stdout), 1)
        with urllib.request.urlopen(f"{http}/v1/models") as answer:
            self.assertEqual(json.load(answer)["data"][0]["id"], "m")

        def measure(*flags, server=f"127.0.0.1:{ready['grpc_port']}", vocab="100", repeats="1", cwd=None):
            return subprocess.run([BERTH, "bench", "serve", "--server", server, "--repeats", repeats, "--vocab", vocab, *flags], capture_output=True, text=True,
                                  cwd=cwd)

        def rows(*flags, **more):
            done = measure(*flags, **more)
            self.assertEqual(done.returncode, 0, done.stderr)
            found = {row["name"]: row["figures"] for row in json.loads(done.stdout)["rows"]}
            for figures in found.values():
                self.assertGreater(figures["output_rate"]["median"], 0)
                self.assertGreaterEqual(figures["latency_p99"]["median"], figures["ttft_p50"]["median"])
            return found
        self.assertEqual(list(rows("--loads", "B:3x8/6,A:4/1")), ["B 3 x 8/6", "A 1 x 4/1"])
        # The lengths that are built in, from any folder.
        self.assertEqual(list(rows("--loads", "C:1@1", cwd="/")), ["C trace 1 @ 1"])
        small = ["--num-prompts", "4", "--input-len", "8", "--output-len", "4"]
        with tempfile.TemporaryDirectory() as folder:
            plot, trace = os.path.join(folder, "plot.svg"), os.path.join(folder, "trace.json")
            names = list(rows("--concurrency", "1,2", "--request-rate", "200", *small, "--plot", plot))
            self.assertEqual(sorted(names), ["4 @ 1", "4 @ 2", "4 at 200/s"])
            titles = [title.text for title in xml.etree.ElementTree.parse(plot).iter("{http://www.w3.org/2000/svg}title")]
            for name in names:
                self.assertTrue(any(title.startswith(name) for title in titles), titles)
            pathlib.Path(trace).write_text("[[8, 4, 0], [8, 4, 1.5]]")
            said, shown = run_on_terminal([BERTH, "bench", "serve", "--server", http, "--model", "m", "--vocab", "100", "--repeats", "1",
                                           "--replay", "1", "--num-prompts", "2", "--trace", trace])
            self.assertEqual(len(json.loads(said)["rows"]), 1)
            self.assertIn("measuring, 0 s, 0 of 4 requests\x1b[K\r", shown)
            self.assertRegex(shown, r"measuring, \d+ s, [1-4] of 4 requests, \d\.\d a second\x1b\[K\r")
            pathlib.Path(trace).write_text("[[8, 4, 0], [9, 3, 0.01], [7, 2, 0.02]]")
            # The same over both APIs: a trace at its times, prompts that begin alike, and conversations, whose turns find the last in the cache.
            for server in ({}, {"server": http}):
                model = ["--model", "m"]
                self.assertEqual(list(rows("--replay", "2", "--num-prompts", "3", "--trace", trace, *model, **server)), ["3 replayed x 2"])
                # A prompt of ids has no worker of its own: after the warm-up each prefix may miss once more, so in two of five runs at most.
                shared = rows("--concurrency", "1", *small, "--prefix-len", "128", "--prefixes", "2", *model, **server, repeats="5")
                self.assertGreaterEqual(shared["4 @ 1"]["cached"]["median"], 0.9)
                turns = rows("--concurrency", "2", *small, "--turns", "3", "--prefix-len", "40", *model, **server)
                self.assertGreater(turns["12 @ 2"]["cached"]["median"], 0.4)
        for model, vocab, error in (("", "100", "--model"), ("n", "100", "HTTP 404"), ("m", "100000", "HTTP 400")):
            wrong = measure("--loads", "B:1x8/6", "--model", model, server=http, vocab=vocab)
            self.assertEqual(wrong.returncode, 1)
            self.assertIn(error, wrong.stderr)
        self.assertIn("the connection ended", measure("--loads", "A:1/1", "--model", "m", server=f"http://127.0.0.1:{ready['grpc_port']}").stderr)
        for flags, error in ((["--loads", "X"], '"X" is no load'), (["--loads", "B:1x8/6", "--model", "n"], '"n"')):
            wrong = measure(*flags)
            self.assertEqual(wrong.returncode, 2 if "X" in flags else 1)
            self.assertIn(error, wrong.stderr)


if __name__ == "__main__":
    unittest.main()
