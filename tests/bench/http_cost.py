#!/usr/bin/env python3
"""What HTTP costs at the gateway, on the simulated engine, each case with one command; a line of JSON per case. Run it on a quiet machine.

usage: http_cost.py [--bin-dir build/cpu-release/bin] [--pairs N] overhead | streams | idle | slow …

overhead   the same generation over gRPC and over HTTP in turn, one at a time: what a caller waits, and the gateway's CPU for each
streams    2,000 server-sent streams at once: the gateway's memory for each, and after they closed
idle       2,000 connections that say nothing
slow       500 callers who send a byte of a header every second: their memory, when they are cut, and a generation beside them
"""
import argparse
import json
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "cluster"))

import processes  # noqa: E402
from proc_figures import cpu_seconds, memory_mib  # noqa: E402

STREAMS, SLOW = 2000, 500
LIMITS = ("--max-streams", 4000, "--max-waiting", 4000)


class Bench:
    def __init__(self, arguments):
        self.bin_dir, self.pairs = arguments.bin_dir, arguments.pairs

    def cluster(self, folder, *worker_flags):
        return processes.Cluster(self.bin_dir, folder, 1, ("--sim", "--log-level", "error", *worker_flags), LIMITS)

    def overhead(self, folder):
        cluster = self.cluster(folder, "--sim-step-ms", 0)
        result = {}
        for over in ("both", "grpc", "http"):
            before = sum(cpu_seconds(cluster.gateway).values())
            command = [os.path.join(self.bin_dir, "http_bench"), f"127.0.0.1:{cluster.gateway.ready['grpc_port']}",
                       str(cluster.gateway.ready["http_port"]), str(self.pairs), over]  # fmt: skip
            report = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            if over == "both":
                result = report
            else:
                cpu = sum(cpu_seconds(cluster.gateway).values()) - before
                result[over]["gateway_cpu_us"] = round(1e6 * cpu / report["requests"])
        cluster.stop()
        for quantile in ("p50", "p99"):
            name = f"first_token_{quantile}_us"
            result[f"added_{name}"] = round(result["http"][name] - result["grpc"][name], 1)
        return result

    def streams(self, folder):
        cluster = self.cluster(folder, "--sim-step-ms", 400, "--sim-slots", STREAMS, "--sim-kv-blocks", 65536)
        before = memory_mib(cluster.gateway)
        body = json.dumps({"model": "sim", "prompt": "x", "max_tokens": 2000, "ignore_eos": True, "stream": True})
        request = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        sockets, highest = [], before
        for _ in range(STREAMS):
            sockets.append(connect(cluster))
            sockets[-1].sendall(request)
        with selectors.DefaultSelector() as selector:
            for each in sockets:
                each.setblocking(False)
                selector.register(each, selectors.EVENT_READ)
            read, end = set(), time.monotonic() + 60
            while len(read) < STREAMS and time.monotonic() < end:
                for key, _ in selector.select(0.5):
                    if b"data: {" in key.fileobj.recv(65536):
                        read.add(key.fd)
                highest = max(highest, memory_mib(cluster.gateway))
        running = cluster.metric(cluster.workers["w0"], "vllm:num_requests_running")
        for each in sockets:
            each.close()
        processes.until(lambda: not cluster.metric(cluster.workers["w0"], "vllm:num_requests_running"))
        after = memory_mib(cluster.gateway)
        cluster.stop()
        return {"streams": len(read), "running": running, "gateway_mib": highest, "before_mib": before, "after_closing_mib": after,
                "kib_per_stream": (highest - before) * 1024 / STREAMS}  # fmt: skip

    def idle(self, folder):
        cluster = self.cluster(folder)
        before = memory_mib(cluster.gateway)
        sockets = [connect(cluster) for _ in range(STREAMS)]
        assert cluster.post("/v1/completions", {"model": "sim", "prompt": "x", "max_tokens": 1})[0] == 200
        held = memory_mib(cluster.gateway)
        begin = time.monotonic()
        lived = [end - begin for end in until_cut(sockets, b"")]
        after = memory_mib(cluster.gateway)
        cluster.stop()
        return {"kib_per_connection": (held - before) * 1024 / STREAMS, "cut_after_s": [min(lived), max(lived)],
                "grown_after_mib": after - before}  # fmt: skip

    def slow(self, folder):
        cluster = self.cluster(folder, "--sim-step-ms", 0)
        before = memory_mib(cluster.gateway)
        sockets = [connect(cluster) for _ in range(SLOW)]
        for each in sockets:
            each.sendall(b"POST /v1/completions HTTP/1.1\r\nX-")
        begin, waits, held = time.monotonic(), [], before

        def generate():
            nonlocal held
            start = time.monotonic()
            status, _, answer = cluster.post("/v1/completions", {"model": "sim", "prompt": "x", "max_tokens": 1})
            if status != 200:
                sys.exit(f"the machine is too busy: {answer}")
            waits.append(time.monotonic() - start)
            held = max(held, memory_mib(cluster.gateway))

        lived = [end - begin for end in until_cut(sockets, b"a", generate)]
        cluster.stop()
        return {"kib_per_connection": (held - before) * 1024 / SLOW, "cut_after_s": [min(lived), max(lived)],
                "beside_them_ms": [1e3 * sorted(waits)[len(waits) // 2], 1e3 * max(waits)]}  # fmt: skip


def connect(cluster):
    return socket.create_connection(("127.0.0.1", cluster.gateway.ready["http_port"]))


def until_cut(sockets, drip, beside=lambda: None):
    """When the gateway closed each; `drip` is sent to it on each that is open, and `beside` called, once a second."""
    ends = []
    with selectors.DefaultSelector() as selector:
        for each in sockets:
            selector.register(each, selectors.EVENT_READ)
        while selector.get_map():
            beside()
            for key in list(selector.get_map().values()):
                try:
                    key.fileobj.send(drip)
                except OSError:
                    pass  # it is cut: its event comes
            until = time.monotonic() + 1
            while selector.get_map() and (left := until - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
                    ends.append(time.monotonic())
    return ends


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="+", choices=["overhead", "streams", "idle", "slow"])
    parser.add_argument("--bin-dir", default=os.path.join(ROOT, "build/cpu-release/bin"))
    parser.add_argument("--pairs", type=int, default=2000, help="of generations in the case overhead")
    arguments = parser.parse_args()
    for case in arguments.case:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps({"case": case, **getattr(Bench(arguments), case)(folder)}), flush=True)


main()
