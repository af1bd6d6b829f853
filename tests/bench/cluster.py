#!/usr/bin/env python3
"""What a cluster of simulated workers costs and holds, each case with one command; a line of JSON per case. Run it on a quiet machine.

usage: cluster.py [--bin-dir build/cpu-release/bin] [--seconds S] [--tls] [--gateways N] [--top-logprobs N] overload | first_message | tokens | memory | fan_in | slow_callers | cancels …

overload        10 times what 4 workers can do: what ends in time, how soon the rest is refused, the gateway's memory
first_message   1,000 requests/s through a gateway and 1,000 directly to its worker, in turn, evenly spread: what the
                gateway adds, and its CPU
tokens          CPU per token of gateway and worker (its engine aside): 256 streams, steps of 10 ms
memory          10,000 open streams: the gateways' memory for each, and theirs and the worker's 10 s after they closed
fan_in          64 streams over 8 gateways and over one, steps of 2 ms: the worker's I/O thread and its steps
slow_callers    200 callers who read a message a second beside 200 others: what these feel, five pairs of runs in turn
cancels         1,000 cancels/s: KV blocks afterwards, and the memory of every process
--tls: callers, gateways and workers show certificates to each other. --gateways: callers use so many in turn.
CPU is that of the processes' threads (schedstat), so that other work on the machine distorts it little; latencies it does.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "cluster"))
sys.path.insert(0, os.path.join(ROOT, "tests", "cluster", "chaos"))

import processes  # noqa: E402
from certificates import Certificates  # noqa: E402
from proc_figures import cpu_seconds, memory_mib  # noqa: E402

ENGINE = ("engine", "device")  # the simulated device's time is nobody's cost
WARM_UP = 3


class Bench:
    def __init__(self, arguments):
        self.bin_dir, self.seconds = arguments.bin_dir, arguments.seconds
        self.gateways, self.rate = arguments.gateways, arguments.rate
        self.numbers = {} if arguments.top_logprobs is None else {"top_logprobs": arguments.top_logprobs}
        self.tls = arguments.tls

    def cluster(self, folder, worker_flags, workers=1, gateway_flags=(), gateways=None):
        """The cluster; its gateways are `targets`, of which `gateway` is the first."""
        if self.tls:
            certificates = Certificates(folder)
            os.symlink(certificates.ca, os.path.join(folder, "tls-1", "ca.crt"))
            self.numbers["tls"] = os.path.join(folder, "tls-1")
            worker_flags = (*worker_flags, *certificates.worker_flags())
            gateway_flags = (*gateway_flags, *certificates.gateway_flags(), "--ssl-ca-certs", certificates.ca)
        cluster = processes.Cluster(self.bin_dir, folder, workers, ("--sim", "--log-level", "error", *worker_flags), gateway_flags)
        names = [f"g{i}" for i in range(1, gateways or self.gateways)]
        cluster.targets = [cluster.gateway] + [cluster.start_gateway(name, cluster.addresses(), *gateway_flags) for name in names]
        return cluster

    def load(self, *targets, **numbers):
        """load_bench in the background."""
        numbers = {"seconds": self.seconds, "warm_up": WARM_UP, **self.numbers, **numbers}
        command = [os.path.join(self.bin_dir, "load_bench"), *targets, *(f"{name}={value}" for name, value in numbers.items())]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    @staticmethod
    def reports(load):
        return [json.loads(line) for line in load.communicate()[0].splitlines()]

    def sampled(self, cluster, load, *programs):
        """(CPU seconds by thread of each program, tokens and steps of the worker, seconds) of the middle of a load, and its reports."""
        worker = cluster.workers["w0"]

        def sample():
            counts = [cluster.metric(worker, name) for name in ("vllm:generation_tokens_total", "berth_worker_engine_steps_total")]
            return [cpu_seconds(program) for program in programs], counts, time.monotonic()

        time.sleep(WARM_UP + 1)
        cpu, counts, begin = sample()
        time.sleep(self.seconds - 2)
        cpu_after, counts_after, end = sample()
        reports = self.reports(load)
        used = [{name: after[name] - before.get(name, 0) for name in after} for before, after in zip(cpu, cpu_after)]
        return used, [after - before for before, after in zip(counts, counts_after)], end - begin, reports

    def overload(self, folder):
        cluster = self.cluster(folder, ("--sim-step-ms", 20, "--sim-slots", 32), workers=4)
        before = memory_mib(cluster.gateway)
        load = self.load(grpc(cluster), rate=1280, deadline=5, tokens=50, high_every=40, warm_up=10)
        report = self.reports(load)[0]
        shed = {reason: self.shed(cluster, reason) for reason in ("deadline", "queue_full", "late", "displaced", "queue_timeout")}
        grown = memory_mib(cluster.gateway) - before
        cluster.stop()
        goodput = report["normal"]["ok_per_second"] + report["high"]["ok_per_second"]
        return {"capacity_per_second": 128, "goodput_share": goodput / 128, "gateway_grown_mib": grown, "shed": shed, **report}

    @staticmethod
    def shed(cluster, reason):
        """Refusals of all gateways, warm-up included, and the bucket that 99 % of their times within the gateway end in."""
        def count(**labels):
            name = "berth_gateway_shed_seconds_" + ("bucket" if labels else "count")
            return sum(cluster.metric(gateway, name, reason=reason, **labels) for gateway in cluster.targets)

        total = count()
        bounds = ["1e-05", "2.5e-05", "5e-05", "0.0001", "0.00025", "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.05", "0.1"]
        p99 = next((bound for bound in bounds if count(le=bound) >= 0.99 * total), "more") if total else None
        return {"count": total, "p99_within_s": p99}

    def first_message(self, folder):
        cluster = self.cluster(folder, ("--serve-callers", "--sim-step-ms", 0))
        worker = cluster.workers["w0"]
        load = self.load(f"127.0.0.1:{worker.ready['port']}", grpc(cluster), rate=2 * self.rate, tokens=1)
        cpu, (tokens, _), _, reports = self.sampled(cluster, load, *cluster.targets)
        direct, gateway = [report["normal"] for report in reports]
        cluster.stop()
        added = {f"added_{q}_us": gateway[f"first_message_{q}_us"] - direct[f"first_message_{q}_us"] for q in ("p50", "p99")}
        cost = 2e6 * sum(sum(used.values()) for used in cpu) / tokens
        return {**added, "gateway_us_per_request": cost, "direct": direct, "gateway": gateway}

    def tokens(self, folder):
        cluster = self.cluster(folder, ("--sim-step-ms", 10, "--sim-slots", 256, "--sim-kv-blocks", 65536))
        load = self.load(grpc(cluster), streams=256, tokens=8000)
        (worker, *gateways), (tokens, _), seconds, _ = self.sampled(cluster, load, cluster.workers["w0"], *cluster.targets)
        cluster.stop()
        own = sum(cpu for name, cpu in worker.items() if name not in ENGINE)
        gateway = sum(sum(gateway.values()) for gateway in gateways)
        return {"tokens_per_second": tokens / seconds, "gateway_us_per_token": 1e6 * gateway / tokens,
                "worker_us_per_token": 1e6 * own / tokens}  # fmt: skip

    def memory(self, folder):
        limits = ("--max-streams", 12000, "--max-waiting", 12000)
        cluster = self.cluster(
            folder, ("--sim-step-ms", 1000, "--sim-slots", 10000, "--sim-kv-blocks", 65536), gateway_flags=limits
        )

        def sizes():
            return sum(map(memory_mib, cluster.targets)), memory_mib(cluster.workers["w0"])

        before, worker_before = sizes()
        load = self.load(grpc(cluster), streams=10000, tokens=1000, seconds=self.seconds + 10)
        processes.until(lambda: cluster.metric(cluster.workers["w0"], "vllm:num_requests_running") == 10000)
        time.sleep(self.seconds)  # some tokens of each
        opened, _ = sizes()
        self.reports(load)
        time.sleep(10)
        closed, worker_closed = sizes()
        cluster.stop()
        return {"kib_per_stream": (opened - before) * 1024 / 10000, "grown_after_closing_mib": closed - before,
                "worker_grown_after_closing_mib": worker_closed - worker_before}  # fmt: skip

    def fan_in(self, folder):
        result = {}
        for gateways in (8, 1):
            sub = tempfile.mkdtemp(dir=folder)
            cluster = self.cluster(sub, ("--sim-step-ms", 2, "--sim-slots", 64, "--sim-kv-blocks", 65536), gateways=gateways)
            load = self.load(grpc(cluster), streams=64, tokens=8000, channels=1)
            (worker,), (_, steps), seconds, _ = self.sampled(cluster, load, cluster.workers["w0"])
            cluster.stop()
            busiest = max((cpu, name) for name, cpu in worker.items() if name not in ENGINE)
            result[f"{gateways}_gateways"] = {"step_ms": 1e3 * seconds / steps, "io_thread": busiest[1],
                                              "io_thread_share": busiest[0] / seconds}  # fmt: skip
        return result

    def slow_callers(self, folder):
        cluster = self.cluster(folder, ("--sim-step-ms", 50, "--sim-slots", 512, "--sim-kv-blocks", 65536))
        gaps = {0: [], 200: []}

        def running():
            return cluster.metric(cluster.workers["w0"], "vllm:num_requests_running")

        for slow in (0, 200) * 5:
            # In a process of their own: in one process gRPC reads everybody's connections on whichever thread asks.
            beside = slow and self.load(grpc(cluster), rate=0, slow_readers=slow, seconds=self.seconds + 5)
            processes.until(lambda: running() == slow)
            report = self.reports(self.load(grpc(cluster), streams=200, tokens=8000))[0]["normal"]
            gaps[slow].append(report["token_gap_p99_us"])
            if beside:
                self.reports(beside)
            processes.until(lambda: running() == 0)
        cluster.stop()
        differences = sorted(beside - alone for alone, beside in zip(*gaps.values()))
        return {"median_difference_p99_us": differences[2], "alone_p99_us": gaps[0], "beside_p99_us": gaps[200]}

    def cancels(self, folder):
        cluster = self.cluster(folder, ("--sim-step-ms", 20, "--sim-slots", 128), workers=4)
        programs = {"gateway": cluster.gateway, **cluster.workers}
        before = {name: memory_mib(program) for name, program in programs.items()}
        report = self.reports(self.load(grpc(cluster), rate=1000, tokens=400, cancel_after=2))[0]["normal"]
        # Else it ends with an error.
        processes.until(lambda: not any(cluster.metric(w, "vllm:kv_cache_usage_perc") for w in cluster.workers.values()))
        grown = {name: memory_mib(program) - before[name] for name, program in programs.items()}
        cluster.stop()
        return {"kv_usage": 0, "grown_mib": grown, **report}


def grpc(cluster):
    return ",".join(f"127.0.0.1:{gateway.ready['grpc_port']}" for gateway in cluster.targets)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="+", choices=["overload", "first_message", "tokens", "memory", "fan_in", "slow_callers", "cancels"])
    parser.add_argument("--bin-dir", default=os.path.join(ROOT, "build/cpu-release/bin"))
    parser.add_argument("--seconds", type=float, default=10, help="that are measured")
    parser.add_argument("--rate", type=int, default=1000, help="of first_message, requests a second each way")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--gateways", type=int, default=1)
    parser.add_argument("--top-logprobs", type=int)
    arguments = parser.parse_args()
    for case in arguments.case:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps({"case": case, **getattr(Bench(arguments), case)(folder)}), flush=True)


main()
