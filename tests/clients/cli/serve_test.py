#!/usr/bin/env python3
"""berth serve with stand-ins for its programs. usage: serve_test.py PATH_OF_BERTH [unittest's arguments]

Every process inherits the writing end of one pipe, `events`: its end of file says that no process is left."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

BERTH = pathlib.Path(sys.argv.pop(1)).resolve()
FAKES = pathlib.Path(__file__).parent / "fakes"


class Serve:
    """A running `berth serve` in a folder with the stand-ins."""

    def __init__(self, folder, *flags, **environment):
        self.folder = folder
        for program in (BERTH, FAKES / "berth-worker", FAKES / "berth-gateway"):
            shutil.copy(program, folder)
        read_end, write_end = os.pipe()
        self.process = subprocess.Popen(
            [f"{folder}/berth", "serve", "the model", "--ready-line", *flags], pass_fds=[write_end],
            env={**os.environ, "EVENTS_FD": str(write_end), "TMPDIR": folder, **environment},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        os.close(write_end)
        self.events = os.fdopen(read_end)

    def ready(self):
        return json.loads(self.process.stdout.readline())

    def event(self, *words):
        """The data of the next event, which must be `words`."""
        line = self.events.readline().split(" ", 2)
        if tuple(word.strip() for word in line[:2]) != words:
            raise AssertionError(f"expected {words}, got {line}")
        return json.loads(line[2]) if len(line) > 2 else None

    def started_workers(self, count):
        started = {}
        for _ in range(count):
            name, what, data = self.events.readline().split(" ", 2)
            assert what == "started", what
            started[name] = json.loads(data)
        return started

    def log_until(self, text):
        for line in self.process.stderr:
            if text in line:
                return line
        raise AssertionError(f"the log ended without {text!r}")

    def rest(self):
        """What is told until the last process is gone."""
        return self.events.read().split("\n")[:-1]


class ServeTest(unittest.TestCase):
    def serve(self, *flags, **environment):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        serve = Serve(folder.name, *flags, **environment)
        self.addCleanup(serve.process.stdout.close)
        self.addCleanup(serve.process.stderr.close)
        self.addCleanup(serve.events.close)
        self.addCleanup(serve.process.wait)
        self.addCleanup(serve.process.kill)
        return serve

    def started(self, *flags, **environment):
        serve = self.serve("--workers", "2", *flags, **environment)
        workers = serve.started_workers(2)
        gateway = serve.event("gateway", "started")
        self.assertEqual(serve.ready(), {"ready": True, "http_port": 80, "grpc_port": 81})
        return serve, workers, gateway

    def test_gateway_knows_the_workers_and_each_gets_its_flags(self):
        serve, workers, gateway = self.started("--session-len", "512", "--model-name", "m", "--worker-flag=--depth", "--worker-flag=2")
        self.assertEqual(gateway["workers"], ",".join(f"{name}=127.0.0.1:{workers[name]['port']}" for name in ("worker-1", "worker-2")))
        for name, worker in workers.items():
            flags = dict(zip(worker["flags"][::2], worker["flags"][1::2]))
            threads = flags.pop("--cpu-threads")
            self.assertGreaterEqual(int(threads), 1)
            self.assertRegex(flags.pop("--journal"), "^sqlite:/.*/sessions.db$")
            self.assertEqual(flags, {"--model": "the model", "--model-name": "m", "--worker-id": name, "--port": "0", "--session-len": "512",
                                     "--depth": "2", "--device": "auto:" + str(int(name[-1]) - 1)})

    def test_a_flag_goes_to_the_program_that_has_it(self):
        _, workers, gateway = self.started("--http-request-seconds", "7", "--allow-origins", "https://a.example", "--api-keys=-x",
                                           "--no-prefix-cache", "--max-waiting=0", "--log-level", "debug", "--drain-seconds", "2.5")
        self.assertEqual(gateway["flags"][gateway["flags"].index("--drain-seconds") + 1], "2.5")
        self.assertEqual(gateway["flags"][gateway["flags"].index("--wait-workers") + 1:],
                         ["--log-level", "debug", "--api-keys=-x", "--allow-origins=https://a.example", "--http-request-seconds", "7",
                          "--max-waiting", "0"])
        for worker in workers.values():
            self.assertEqual(worker["flags"][-3:], ["--log-level", "debug", "--no-prefix-cache"])

    def test_the_ports_that_are_not_given_follow_the_first(self):
        for flags, ports in (([], "23333 23334 23335 23336"), (["--port", "7000"], "7000 7001 7002 7003"), (["--port=0"], "0 0 0 0"),
                             (["--admin-port", "9", "--port", "7000"], "7000 7001 9 7003"), (["--grpc-port", "9"], "23333 9 23335 23336")):
            _, _, gateway = self.started(*flags)
            at = dict(zip(gateway["flags"], gateway["flags"][1:]))
            self.assertEqual([at[f"--{name}-port"] for name in ("http", "grpc", "admin", "metrics")], ports.split())

    def test_a_wrong_value_is_named_before_anything_is_started(self):
        for flag, value, named in (("--http-request-seconds", "0", "not in range"), ("--max-streams", "x", "x"), ("--log-level", "loud", "loud"),
                                   ("--drain-seconds", "-1", "-1"), ("--port", "65533", "65533 not in range"),
                                   ("--ssl-certfile", "/no/such/file", "/no/such/file")):
            serve = self.serve(flag, value)
            error = serve.process.stderr.read()
            self.assertIn(flag + ": ", error)
            self.assertIn(named, error)
            self.assertEqual(serve.process.wait(), 2)
            self.assertEqual(serve.rest(), [])

    def test_a_device_for_each_worker(self):
        for flags, want in ((["--device", "cuda"], ["cuda:0", "cuda:1"]), (["--device", "cpu"], ["cpu", "cpu"])):
            _, workers, _ = self.started(*flags)
            self.assertEqual([worker["flags"][worker["flags"].index("--device") + 1] for _, worker in sorted(workers.items())], want)
        serve = self.serve("--workers", "2", "--device", "cuda:1")
        self.assertIn("--device is cuda:1, one GPU for 2 workers", serve.process.stderr.read())
        self.assertEqual(serve.process.wait(), 2)

    def test_stops_the_gateway_then_the_workers(self):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            serve, _, _ = self.started()
            serve.process.send_signal(number)
            rest = serve.rest()
            self.assertEqual(rest[:2], ["gateway told", "gateway stopped"])
            self.assertEqual(sorted(rest[2:]), ["worker-1 stopped", "worker-2 stopped"])
            self.assertEqual(serve.process.wait(), 0)
            self.assertEqual([path for path in pathlib.Path(serve.folder).iterdir() if path.is_dir()], [])

    def test_under_nohup_it_goes_on(self):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGHUP, signal.SIG_DFL)
        serve, _, _ = self.started()
        serve.process.send_signal(signal.SIGHUP)
        serve.process.terminate()  # the first signal that counts
        self.assertEqual(serve.rest()[:2], ["gateway told", "gateway stopped"])

    def test_kill_9_leaves_no_child(self):
        serve, _, _ = self.started()
        serve.process.kill()
        self.assertEqual(serve.rest(), [])  # returns when the last one is gone; none was asked to stop

    def test_a_second_signal_kills(self):
        serve, _, _ = self.started(GATEWAY_MODE="stubborn")
        serve.process.terminate()
        serve.event("gateway", "told")
        serve.process.terminate()
        self.assertEqual(serve.rest(), [])
        self.assertEqual(serve.process.wait(), 0)

    def test_a_worker_that_dies_is_started_again_on_its_port(self):
        serve, workers, _ = self.started()
        os.kill(workers["worker-1"]["pid"], signal.SIGKILL)
        self.assertIn("signal 9", serve.log_until("worker-1 ended"))
        again = serve.event("worker-1", "started")
        self.assertEqual(again["port"], workers["worker-1"]["port"])
        self.assertNotEqual(again["pid"], workers["worker-1"]["pid"])

    def test_the_gateway_is_started_again(self):
        serve, _, gateway = self.started()
        os.kill(gateway["pid"], signal.SIGKILL)
        self.assertEqual(serve.event("gateway", "started")["workers"], gateway["workers"])

    def test_a_worker_that_cannot_start_ends_it_all(self):
        serve = self.serve("--workers", "2", WORKER_MODE="die")
        log = serve.process.stderr.read()
        self.assertIn("worker-2 | out of luck\n", log)
        self.assertIn("berth: worker-2 did not start: exit code 3\n", log)
        self.assertEqual(serve.process.wait(), 1)
        serve.rest()

    def test_a_missing_program_is_named(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        shutil.copy(BERTH, folder.name)
        ended = subprocess.run([f"{folder.name}/berth", "serve", "m"], env={**os.environ, "TMPDIR": folder.name}, stderr=subprocess.PIPE, text=True)
        self.assertIn(f"cannot run {folder.name}/berth-worker: No such file or directory", ended.stderr)
        self.assertEqual(ended.returncode, 1)

    def test_a_silent_worker_is_killed_and_started_again(self):
        serve, workers, _ = self.started(WORKER_MODE="silent")
        serve.log_until("silent for 2s: killed")
        again = serve.started_workers(1)
        for name, worker in again.items():
            self.assertEqual(worker["port"], workers[name]["port"])

    def test_a_frozen_worker_is_killed_and_its_neighbour_lives(self):
        serve, workers, _ = self.started(WORKER_MODE="alive")
        os.kill(workers["worker-1"]["pid"], signal.SIGSTOP)
        self.assertIn("worker-1", serve.log_until("silent for 2s: killed"))
        serve.event("worker-1", "started")
        serve.process.terminate()
        self.assertEqual(sorted(serve.rest()[2:]), ["worker-1 stopped", "worker-2 stopped"])

    def test_what_programs_write_comes_with_their_name(self):
        serve, _, _ = self.started()
        self.assertIn(serve.log_until("a line before"), ("worker-1 | a line before\n", "worker-2 | a line before\n"))


if __name__ == "__main__":
    unittest.main()
