"""Runs one scenario: an undisturbed run first, then the loads with the events between them."""
import asyncio
import os
import resource
import tempfile
import time

from callers import Gateways, Outcome, Request, call, undisturbed
from figures import Measured
from machines import Machines
from scenario import ClusterPlan

QUIET_SECONDS = 15
HITTING = (
    "kill", "freeze", "terminate", "restart", "replace", "partition", "kill_gateway", "terminate_gateway", "replace_gateway",
)  # fmt: skip


class Tokens:
    """Tokens that all callers received so far; an event can wait for a number of them."""

    def __init__(self):
        self.count = 0
        self._waiting = []

    def add(self, count):
        self.count += count
        while self._waiting and self._waiting[0][0] <= self.count:
            self._waiting.pop(0)[1].set_result(None)

    async def reach(self, count):
        if self.count < count:
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((count, future))
            await future


class Run:
    def __init__(self, scenario, machines, gateways):
        self.scenario, self.machines, self.gateways = scenario, machines, gateways
        self.tokens = Tokens()
        self.outcomes = []
        self.begun = []  # loads of `begin` events
        self.hits = []  # when something was done, and to which worker; None: to a gateway

    async def load(self, load):
        gate = asyncio.Semaphore(load.in_flight or load.conversations())
        began = time.monotonic()

        async def converse(index):
            if load.rate:
                await asyncio.sleep(began + index / load.rate - time.monotonic())
            async with gate:
                for turn in range(load.turns):
                    await self.turn(Request(load, self.scenario.seed, index, turn))

        await asyncio.gather(*(converse(i) for i in range(load.conversations())))

    async def turn(self, request):
        outcome = Outcome(request.load.name, request.key, request.session)
        self.outcomes.append(outcome)
        await call(request, self.gateways, outcome, self.tokens.add)

    async def happen(self):
        for event in self.scenario.events:
            for _ in range(event.repeat):
                await self.tokens.reach(event.after_tokens)
                await asyncio.sleep(event.after_s)
                if event.load:
                    load = asyncio.ensure_future(self.load(next(load for load in self.scenario.load if load.name == event.load)))
                    if event.do == "run":
                        await load
                    else:
                        self.begun.append(load)
                    continue
                if event.do == "settle":
                    await asyncio.gather(*self.begun)
                    await quiet(self.machines)
                worker = await asyncio.to_thread(self.machines.pick, event.worker) if event.worker else None
                if event.do in HITTING:
                    self.hits.append((time.monotonic(), worker and worker.name))
                await self.machines.do(event, worker)

    async def everything(self):
        background = [self.load(load) for load in self.scenario.load if not load.foreground]
        await asyncio.gather(self.happen(), *background)


async def undisturbed_outputs(scenario, bin_dir, folder):
    """What each turn answers when nothing happens: {turn's key: output}."""
    loads = [load for load in scenario.load if load.compare]
    if not loads:
        return {}
    model = scenario.cluster.model
    arguments = [] if model else ["--sim-step-ms", 1, "--sim-slots", 256, "--sim-kv-blocks", 65536]
    machines = Machines(ClusterPlan(workers=1, worker_arguments=arguments, model=model), bin_dir, folder)
    outputs = {}
    try:
        await machines.start()
        gateways = Gateways(machines)

        async def converse(load, index):
            for turn in range(load.turns):
                request = Request(load, scenario.seed, index, turn)
                outputs[request.key] = await undisturbed(request, gateways)

        for load in loads:
            await asyncio.gather(*(converse(load, i) for i in range(load.conversations())))
        await gateways.close()
    finally:
        await machines.stop()
    return outputs


async def quiet(machines):
    """Waits until no worker has anything to do, for at most QUIET_SECONDS; whether it came."""
    deadline = time.monotonic() + QUIET_SECONDS
    while time.monotonic() < deadline:
        samples = await asyncio.to_thread(machines.samples)
        busy = sum(v for (name, _), v in samples.items() if name in ("vllm:num_requests_running", "vllm:num_requests_waiting"))
        if busy == 0:
            return True
    return False


async def run(scenario, bin_dir):
    """Measured figures of the scenario; never longer than its time limit and what starting and stopping takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="berth-chaos-") as folder:
        reference_folder = os.path.join(folder, "undisturbed")
        os.mkdir(reference_folder)
        outputs = await asyncio.wait_for(undisturbed_outputs(scenario, bin_dir, reference_folder), scenario.time_limit_s)
        machines = Machines(scenario.cluster, bin_dir, folder)
        try:
            await machines.start()
            gateways = Gateways(machines)
            measured = Measured(scenario, outputs, machines)
            run = Run(scenario, machines, gateways)
            began = time.monotonic()
            try:
                await asyncio.wait_for(run.everything(), scenario.time_limit_s)
            except TimeoutError:
                measured.timed_out = True
            measured.seconds = time.monotonic() - began
            measured.quiet = await quiet(machines)
            figures = measured.figures(run)
            await gateways.close()
            return figures, measured
        finally:
            await machines.stop()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
