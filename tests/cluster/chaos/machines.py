"""The cluster of a scenario: processes on fixed loopback ports, so that one can come back as itself, and what is done to them."""
import asyncio
import http.client
import os
import re
import resource
import signal
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))

from processes import Process, Redis, free_port  # noqa: E402

from certificates import Certificates  # noqa: E402
from proxy import Proxy  # noqa: E402

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))
RANDOM_MODEL = ("--load-format", "random", "--seed", 1, "--device", "cpu", "--cpu-threads", 1)
WAIT_SECONDS = 30
HELD = ("berth_allocated_bytes", "process_open_fds", "process_threads")
MEMORY_BYTES = 6 << 30  # of addresses, per program: one that grows without bound ends alone


def scrape(port):
    """Seconds that /metrics took, and {(name, labels as written): value}."""
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    took = time.monotonic() - began
    samples = {}
    for line in text.splitlines():
        if match := re.match(r"([^{ #]+)(?:{(.*)})? (\S+)", line):
            samples[match[1], match[2] or ""] = float(match[3])
    return took, samples


class Program:
    """One worker or gateway. `down` says that the scenario took it down: its end is no crash."""

    def __init__(self, name, command, ports, log):
        self.name, self.command, self.ports, self.log = name, command, ports, log
        self.process = None
        self.down = True
        self.frozen = False

    async def start(self):
        self.process = await asyncio.to_thread(Process, *self.command, log=self.log)
        resource.prlimit(self.process.child.pid, resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        self.down = False

    @property
    def running(self):
        return self.process is not None and self.process.child.poll() is None

    def signal(self, number):
        self.process.child.send_signal(number)

    def kill(self):
        self.down = True
        self.process.kill()

    def terminate(self):
        self.down = True
        self.signal(signal.SIGTERM)

    async def end(self):
        """Waits for the end; the exit status."""
        return await asyncio.to_thread(self.process.child.wait, WAIT_SECONDS * 4)

    def died(self):
        """Ended on its own."""
        return self.process is not None and not self.down and not self.running


class Machines:
    def __init__(self, plan, bin_dir, folder):
        self.plan, self.folder = plan, folder
        self.certificates = Certificates(folder) if plan.tls else None
        self.redis = Redis(folder) if plan.journal == "redis" else None
        self.proxies = {}
        self.deaths = 0
        self.slowest_scrape = 0  # seconds
        self.slowest_attach = 0  # seconds, from the ready line of a worker that an event started
        self.settled = []  # what gateways held at `settle` events, when nothing ran: {metric: sum}
        self._turn = 0
        self._picked = None
        ids = [f"w{i}" for i in range(plan.workers + plan.spare)]
        self.workers = {name: self._worker(bin_dir, name) for name in ids}
        self.gateways = []
        self._bin_dir = bin_dir

    def _worker(self, bin_dir, name):
        ports = {"port": free_port(), "metrics": free_port()}
        journal = {"memory": "memory", "sqlite": "sqlite:" + os.path.join(self.folder, "journal.db")}
        engine = ["--model", os.path.join(ROOT, self.plan.model), *RANDOM_MODEL] if self.plan.model else ["--sim"]
        command = [
            os.path.join(bin_dir, "berth-worker"), *engine, "--worker-id", name, "--port", ports["port"], "--admin-port", 0,
            "--metrics-port", ports["metrics"], "--journal", self.redis.url if self.redis else journal[self.plan.journal],
            *(self.certificates.worker_flags() if self.certificates else []), *self.plan.worker_arguments, *self.plan.only.get(name, []),
        ]  # fmt: skip
        return Program(name, command, ports, os.path.join(self.folder, name + ".log"))

    async def _gateway(self, name):
        addresses = []
        for worker, program in self.workers.items():
            port = program.ports["port"]
            if self.plan.proxied:
                self.proxies[worker] = self.proxies.get(worker) or await Proxy.start(port)
                port = self.proxies[worker].port
            addresses.append(f"{worker}=127.0.0.1:{port}")
        ports = {"grpc": free_port(), "http": free_port(), "metrics": free_port()}
        command = [
            os.path.join(self._bin_dir, "berth-gateway"), "--workers", ",".join(addresses), "--grpc-port", ports["grpc"],
            "--http-port", ports["http"], "--admin-port", 0, "--metrics-port", ports["metrics"],
            *([] if self.plan.spare else ["--wait-workers"]), *(self.certificates.gateway_flags() if self.certificates else []),
            *self.plan.gateway_arguments,
        ]  # fmt: skip
        return Program(name, command, ports, os.path.join(self.folder, name + ".log"))

    async def start(self):
        started = list(self.workers.values())[: self.plan.workers]
        await asyncio.gather(*(worker.start() for worker in started))
        self.gateways = [await self._gateway(f"g{i}") for i in range(self.plan.gateways)]
        await asyncio.gather(*(gateway.start() for gateway in self.gateways))
        for worker in started:
            await self.attached(worker.name)

    async def stop(self):
        for program in self.programs():
            if program.frozen:
                program.signal(signal.SIGCONT)
        self.count_deaths()
        for program in self.programs():
            if program.running:
                program.process.child.kill()
            if program.process:
                program.process.child.wait()
                program.process.child.stdout.close()
                program.process.log.close()
        for proxy in self.proxies.values():
            await proxy.stop()
        if self.redis:
            self.redis.kill()

    def programs(self):
        return [*self.gateways, *self.workers.values()]

    def count_deaths(self):
        """Workers and gateways that ended on their own, so far."""
        for program in self.programs():
            if program.died():
                self.deaths += 1
                program.down = True
        return self.deaths

    def samples(self):
        """Every metric of every program that answers, summed over programs."""
        total = {}
        for program in self.programs():
            if not program.running or program.frozen:
                continue
            took, samples = scrape(program.ports["metrics"])
            self.slowest_scrape = max(self.slowest_scrape, took)
            for key, value in samples.items():
                total[key] = total.get(key, 0) + value
        return total

    def live_gateway(self):
        return next(gateway for gateway in self.gateways if gateway.running)

    async def attached(self, worker, up=1):
        """Waits until a gateway sees the worker up or down; each question is a round trip, which paces the loop."""
        deadline = time.monotonic() + WAIT_SECONDS
        for gateway in [gateway for gateway in self.gateways if gateway.running]:
            while True:
                _, samples = await asyncio.to_thread(scrape, gateway.ports["metrics"])
                if samples.get(("berth_gateway_worker_up", f'worker="{worker}"'), 0) == up:
                    break
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{gateway.name} never saw {worker} {'up' if up else 'down'}")

    def pick(self, wanted):
        """The worker that an event means."""
        if wanted == "next":
            names = list(self.workers)[: self.plan.workers]
            self._turn += 1
            self._picked = self.workers[names[(self._turn - 1) % len(names)]]
        elif wanted == "busiest":
            _, samples = scrape(self.live_gateway().ports["metrics"])
            load = {labels: value for (name, labels), value in samples.items() if name == "berth_gateway_streams_open"}
            self._picked = self.workers[re.search(r'worker="([^"]+)"', max(load, key=load.get))[1]]
        elif wanted != "same":
            self._picked = self.workers[wanted]
        return self._picked

    async def do(self, event, worker):
        """One event; `worker` is whom it is done to, None for a gateway's."""
        if event.do == "rotate":
            await asyncio.to_thread(self.certificates.issue)
            return
        if event.do == "measure":
            await asyncio.to_thread(self.samples)
            return
        if event.do == "settle":
            scrapes = [scrape(gateway.ports["metrics"])[1] for gateway in self.gateways if gateway.running]
            self.settled.append({name: sum(samples[name, ""] for samples in scrapes) for name in HELD})
            return
        if event.do.endswith("gateway"):
            await self._to_gateway(event.do, self.gateways[event.gateway])
        elif event.do == "kill":
            worker.kill()
        elif event.do == "freeze":
            worker.frozen = True
            worker.signal(signal.SIGSTOP)
        elif event.do == "thaw":
            worker.frozen = False
            worker.signal(signal.SIGCONT)
        elif event.do == "terminate":
            worker.terminate()
        elif event.do in ("start", "restart", "replace"):
            if event.do == "restart":
                worker.kill()
            if event.do == "replace":
                worker.terminate()
                await worker.end()
            await worker.start()
            ready = time.monotonic()
            await self.attached(worker.name)
            self.slowest_attach = max(self.slowest_attach, time.monotonic() - ready)
        elif event.do == "partition":
            self.proxies[worker.name].drop()
        elif event.do == "heal":
            self.proxies[worker.name].heal()

    async def _to_gateway(self, do, gateway):
        if do == "kill_gateway":
            gateway.kill()
        if do in ("terminate_gateway", "replace_gateway"):
            gateway.terminate()
        if do == "replace_gateway":
            await gateway.end()
        if do in ("start_gateway", "replace_gateway"):
            await gateway.start()
            for worker in self.workers.values():
                if worker.running:
                    await self.attached(worker.name)
