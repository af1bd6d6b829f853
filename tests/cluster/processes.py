"""Berth's programs as child processes on free ports, and a plain HTTP client for them."""
import contextlib
import http.client
import itertools
import json
import os
import random
import re
import signal
import socket
import subprocess
import time

READY_SECONDS = 60
WAIT_SECONDS = 30
# Below those that the kernel gives to connections: one of those could be taken between its choice and its use.
FIXED_PORTS = itertools.cycle(random.sample(range(20000, 32000), 12000))


def free_port(count=1):
    """The first of `count` in a row, for programs that must come back at the same port; others listen on port 0."""
    for port in FIXED_PORTS:
        with contextlib.ExitStack() as probes:
            try:
                for one in range(port, port + count):
                    probe = probes.enter_context(socket.socket())
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", one))
            except OSError:
                continue
            return port


class Process:
    """One program. `ready` is the JSON line that it prints when it listens."""

    def __init__(self, binary, *arguments, log):
        self.log = open(log, "wb")
        self.child = subprocess.Popen([binary, *map(str, arguments)], stdout=subprocess.PIPE, stderr=self.log)
        line = self.child.stdout.readline()
        if not line:
            code = self.child.wait()
            raise RuntimeError(f"{binary} ended with {code} before it was ready: {open(log, errors='replace').read()[-2000:]}")
        self.ready = json.loads(line)

    def kill(self):
        self.child.kill()
        self.child.wait()

    def stop(self):
        """SIGTERM; the exit status."""
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        try:
            return self.child.wait(READY_SECONDS)
        except subprocess.TimeoutExpired:
            self.child.kill()
            raise
        finally:
            self.child.stdout.close()
            self.log.close()


class Redis:
    """A redis-server on a free port, without persistence."""

    def __init__(self, folder):
        self.port = free_port()
        self.child = subprocess.Popen(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--requirepass", "secret", "--save", ""],
            cwd=folder, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        for line in self.child.stdout:
            if "Ready to accept connections" in line:
                return
        raise RuntimeError("redis-server did not start")

    @property
    def url(self):
        return f"redis://:secret@127.0.0.1:{self.port}/0"

    def kill(self):
        self.child.kill()
        self.child.wait()
        self.child.stdout.close()


class Cluster:
    """A gateway and its workers. `worker_arguments` go to every worker."""

    def __init__(self, bin_dir, tmp_path, workers=2, worker_arguments=("--sim",), gateway_arguments=()):
        self.bin_dir, self.tmp_path = bin_dir, tmp_path
        self.worker_arguments = worker_arguments
        self.processes = []
        self.workers = {}
        try:
            for i in range(workers):
                self.start_worker(f"w{i}")
            self.gateway = self.start_gateway("gateway", self.addresses(), *gateway_arguments)
        except BaseException:
            self.stop()
            raise

    def start_worker(self, name, *arguments):
        self.workers[name] = self._start(
            "berth-worker", name, "--worker-id", name, "--port", 0, "--admin-port", 0, "--metrics-port", 0,
            *self.worker_arguments, *arguments,
        )  # fmt: skip

    def addresses(self):
        """All workers, as --workers takes them."""
        return ",".join(f"{name}=127.0.0.1:{worker.ready['port']}" for name, worker in self.workers.items())

    def start_gateway(self, name, workers, *arguments, grpc_port=0):
        """One more gateway, once all its workers are ready."""
        return self._start(
            "berth-gateway", name, "--workers", workers, "--http-port", 0, "--grpc-port", grpc_port, "--admin-port", 0,
            "--metrics-port", 0, "--drain-seconds", 1, "--wait-workers", *arguments,
        )  # fmt: skip

    def _start(self, program, name, *arguments):
        process = Process(
            os.path.join(self.bin_dir, program), *arguments, log=os.path.join(self.tmp_path, name + ".log")
        )
        self.processes.append(process)
        return process

    def stop(self):
        """Stops the gateway first. The exit status of each process."""
        return [process.stop() for process in reversed(self.processes)]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.gateway.ready['http_port']}"

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.gateway.ready["http_port"], timeout=WAIT_SECONDS)

    def post(self, path, body, headers=None):
        """(status, headers, JSON) of the answer. `body` is bytes, or what becomes JSON."""
        connection = self.connect()
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", path, data, headers or {})
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()
        return response.status, response.headers, answer

    def open_stream(self, body, headers=None):
        """A streaming completion that has begun: (connection, response)."""
        connection = self.connect()
        connection.request("POST", "/v1/completions", json.dumps(dict(body, stream=True)), headers or {})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        return connection, response

    def running(self):
        """How many requests the engines of all workers run."""
        return sum(self.metric(worker, "vllm:num_requests_running") for worker in self.workers.values())

    def busy(self):
        """The names of the workers that run requests."""
        return [name for name, worker in self.workers.items() if self.metric(worker, "vllm:num_requests_running")]

    def metric(self, process, name, **labels):
        """The value of a metric in a process's /metrics; 0 when it is not there."""
        connection = http.client.HTTPConnection("127.0.0.1", process.ready["metrics_port"], timeout=WAIT_SECONDS)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        for line in text.splitlines():
            match = re.match(r"([^{ ]+)(?:{(.*)})? (\S+)", line)
            if match and match[1] == name and all(f'{k}="{v}"' in (match[2] or "") for k, v in labels.items()):
                return float(match[3])
        return 0.0


def events(response):
    """The JSON of each server-sent event, up to [DONE]."""
    for line in response:
        if not line.startswith(b"data: "):
            continue
        if line.strip() == b"data: [DONE]":
            return
        yield json.loads(line[6:])


def text_of(response):
    """The text of a streaming completion; its error, if any, fails the test."""
    text = ""
    for event in events(response):
        assert "error" not in event, event
        for choice in event["choices"]:
            text += choice["text"]
    return text


def until(condition):
    """Asks again until the condition holds; each question is a round trip to a process, which paces the loop."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
