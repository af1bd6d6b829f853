"""A cluster under traffic, scraped by a real Prometheus with the rules and jobs that deploy/ ships."""
import asyncio
import contextlib
import http.server
import json
import os
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import scenario
import yaml
from callers import Gateways
from conftest import FOLDER, ROOT
from machines import Machines, free_port
from runner import Run

WAIT_SECONDS = 60


class Prometheus:
    def __init__(self, folder, machines, dcgm_port):
        config = yaml.safe_load(open(os.path.join(ROOT, "deploy/prometheus/prometheus.yml")))
        config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        config["rule_files"] = [os.path.join(ROOT, "deploy/prometheus", name) for name in config["rule_files"]]
        targets = {
            "berth-gateway": [{"targets": [f"127.0.0.1:{g.ports['metrics']}" for g in machines.gateways]}],
            "berth-worker": [
                {"targets": [f"127.0.0.1:{w.ports['metrics']}"], "labels": {"worker": name}} for name, w in machines.workers.items()
            ],
            "dcgm": [{"targets": [f"127.0.0.1:{dcgm_port}"]}],
        }
        for job in config["scrape_configs"]:
            job["static_configs"] = targets[job["job_name"]]
        path = os.path.join(folder, "prometheus.yml")
        with open(path, "w") as file:
            yaml.safe_dump(config, file)
        self.port = free_port()
        self.log = open(os.path.join(folder, "prometheus.log"), "wb")
        command = [
            "prometheus", "--config.file", path, "--storage.tsdb.path", os.path.join(folder, "tsdb"),
            "--web.listen-address", f"127.0.0.1:{self.port}",
        ]  # fmt: skip
        self.child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        ready = False
        while not ready:
            line = self.child.stderr.readline()
            assert line, "prometheus ended: " + open(self.log.name, errors="replace").read()
            self.log.write(line)
            self.log.flush()
            ready = b"Server is ready to receive web requests" in line
        self._drain = threading.Thread(target=lambda: self.log.writelines(self.child.stderr))
        self._drain.start()

    def ask(self, path, **parameters):
        """The `data` of an answer of its HTTP API; an error of its is a ValueError."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=WAIT_SECONDS) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(error.read().decode(errors="replace")) from None

    def names(self):
        return set(self.ask("label/__name__/values"))

    def until(self, condition, what):
        """Asks again until the condition holds; each question is a round trip."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < deadline, what

    def stop(self):
        self.child.terminate()
        self.child.wait()
        self._drain.join()
        self.log.close()


class _Dcgm(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        with open(os.path.join(FOLDER, "dcgm.prom"), "rb") as file:
            self.wfile.write(file.read())

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def prometheus_over_traffic(bin_dir, folder):
    plan = scenario.read(os.path.join(FOLDER, "traffic.toml"))
    machines = Machines(plan.cluster, bin_dir, folder)
    dcgm = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Dcgm)
    threading.Thread(target=dcgm.serve_forever, daemon=True).start()
    prometheus = None

    async def traffic():
        nonlocal prometheus
        await machines.start()
        prometheus = await asyncio.to_thread(Prometheus, folder, machines, dcgm.server_port)
        await asyncio.to_thread(prometheus.until, lambda: "up" in prometheus.names(), "prometheus scrapes nothing")
        gateways = Gateways(machines)
        await asyncio.wait_for(Run(plan, machines, gateways).everything(), plan.time_limit_s)
        await gateways.close()

    try:
        asyncio.run(traffic())
        yield prometheus
    finally:
        if prometheus:
            prometheus.stop()
        asyncio.run(machines.stop())
        dcgm.shutdown()
