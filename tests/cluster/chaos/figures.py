"""What a run came to, as named numbers that a scenario's checks bound."""
import collections
import math
import os


def quantile(values, share):
    """Nearest rank; 0 of nothing."""
    values = sorted(values)
    return values[max(0, math.ceil(share * len(values)) - 1)] if values else 0


def memory_mib(program):
    with open(f"/proc/{program.process.child.pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:")) / 1024


def descriptors(program):
    return len(os.listdir(f"/proc/{program.process.child.pid}/fd"))


def _since(times, moment):
    """Seconds since the last of `times` before `moment`."""
    return moment - max((t for t in times if t <= moment), default=moment)


class Measured:
    """Compares the cluster at the start, when it is made, with the end."""

    def __init__(self, scenario, outputs, machines):
        self.scenario, self.outputs, self.machines = scenario, outputs, machines
        self.samples = machines.samples()
        self.gateway_sizes = {p.name: (p.process.child.pid, memory_mib(p), descriptors(p)) for p in machines.gateways}
        self.timed_out = False
        self.quiet = True
        self.seconds = 0
        self.first_failure = ""

    def _judge(self, outcome, load):
        """Why it failed, in words; empty when it did not."""
        if outcome.code in load.allowed or outcome.reason in load.allowed:
            return ""
        if outcome.code == "CANCELLED" and load.cancel_after_tokens:
            return ""
        if outcome.code != "OK":
            return f"{outcome.code} {outcome.reason}".strip() if outcome.ended else "never ended"
        if outcome.seq_broken:
            return "a gap or double in seq"
        if load.compare and outcome.output() != self.outputs[outcome.key]:
            return "other text or tokens than the undisturbed run"
        return ""

    def figures(self, run):
        loads = {load.name: load for load in self.scenario.load}
        for outcome in run.outcomes:
            outcome.failed = self._judge(outcome, loads[outcome.load])
        failed = [outcome for outcome in run.outcomes if outcome.failed]
        if failed:
            reasons = collections.Counter(outcome.failed for outcome in failed)
            self.first_failure = "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common(3))
        values = {
            "requests": len(run.outcomes),
            "failed": len(failed),
            "hung": sum(not outcome.ended or self.timed_out and outcome.code == "CANCELLED" for outcome in run.outcomes),
            "hit": sum(any(outcome.was_hit(*hit) for hit in run.hits) for outcome in run.outcomes),
            "resumed": sum(outcome.resumed > 0 for outcome in run.outcomes),
            "tokens": run.tokens.count,
            "crashed": self.machines.count_deaths(),
            "quiet": int(self.quiet),
            "timed_out": int(self.timed_out),
        }
        self._add_times(values, run)
        self._add_counts(values, run)
        self._add_metrics(values)
        self._add_sizes(values)
        self._add_placement(values, run)
        if certificates := self.machines.certificates:
            values["newest_certificate"] = int(all(certificates.served(g.ports["http"]) for g in self.machines.gateways if g.running))
        return collections.defaultdict(float, values)

    def _add_times(self, values, run):
        gaps = [gap for outcome in run.outcomes for gap in outcome.gaps]
        values["gap_p50_s"], values["gap_p99_s"] = quantile(gaps, 0.5), quantile(gaps, 0.99)
        values["moved_max_s"] = max([_since([moment for moment, _ in run.hits], t) for o in run.outcomes for t in o.resumed_at], default=0)
        for load in self.scenario.load:
            mine = [outcome for outcome in run.outcomes if outcome.load == load.name]
            good = [o for o in mine if o.code == "OK"]
            firsts = [o.first - o.began for o in good if o.first]
            values[f"{load.name}.first_p50_ms"] = 1e3 * quantile(firsts, 0.5)
            values[f"{load.name}.first_p99_ms"] = 1e3 * quantile(firsts, 0.99)
            values[f"{load.name}.p99_s"] = quantile([o.ended - o.began for o in good], 0.99)
            values[f"{load.name}.ok"] = len(good)
            values[f"{load.name}.per_s"] = len(good) / max(max((o.ended for o in good), default=0) - min((o.began for o in mine), default=0), 1e-3)
            values[f"{load.name}.token_gap_p99_ms"] = 1e3 * quantile([gap for o in mine for gap in o.between], 0.99)
        refused = [o for o in run.outcomes if o.code == "RESOURCE_EXHAUSTED"]
        values["refused"] = len(refused)
        values["refused_p50_ms"] = 1e3 * quantile([o.ended - o.began for o in refused], 0.5)
        values["refused_p99_ms"] = 1e3 * quantile([o.ended - o.began for o in refused], 0.99)
        values["refused_without_retry_info"] = sum(not o.retry_info for o in refused)
        values["late_max_s"] = max([o.ended - o.began - o.deadline for o in run.outcomes if o.deadline], default=0)

    def _add_counts(self, values, run):
        for outcome in run.outcomes:
            values[f"code.{outcome.code}"] = values.get(f"code.{outcome.code}", 0) + 1
            if outcome.reason:
                values[f"reason.{outcome.reason}"] = values.get(f"reason.{outcome.reason}", 0) + 1
        follow_ups = [o for o in run.outcomes if o.session and o.key[2] > 0 and o.affinity]
        if follow_ups:
            values["affinity_hit_share"] = sum(o.affinity == "hit" for o in follow_ups) / len(follow_ups)

    def _add_metrics(self, values):
        """metric.NAME: how much it grew; end.NAME: what it is at the end. Summed over labels and programs. settled.NAME: how much
        more gateways held at a later `settle` than at the first."""
        samples = self.machines.samples()
        values["scrape_max_ms"] = 1e3 * self.machines.slowest_scrape
        if self.machines.settled:
            first, *later = self.machines.settled
            for name in first:
                values["settled." + name] = max(held[name] for held in later) - first[name]
        values["attached_max_s"] = self.machines.slowest_attach
        for (name, _), value in samples.items():
            values["end." + name] = values.get("end." + name, 0) + value
        for key in set(samples) | set(self.samples):
            grown = samples.get(key, 0) - self.samples.get(key, 0)
            values["metric." + key[0]] = values.get("metric." + key[0], 0) + grown

    def _add_sizes(self, values):
        kept = [p for p in self.machines.gateways if p.running and p.process.child.pid == self.gateway_sizes[p.name][0]]
        values["gateway_grown_mib"] = max([memory_mib(p) - self.gateway_sizes[p.name][1] for p in kept], default=0)
        values["gateway_descriptors_grown"] = max([descriptors(p) - self.gateway_sizes[p.name][2] for p in kept], default=0)

    def _add_placement(self, values, run):
        """moved.A.B: share of the sessions of load A that load B found at another worker; strayed.A.B: of those alone whose
        former worker runs."""
        placed = {}
        for outcome in run.outcomes:
            if outcome.session and outcome.worker:
                placed.setdefault(outcome.load, {})[outcome.session] = outcome.worker
        for first, sessions in placed.items():
            for second, others in placed.items():
                both = [session for session in sessions if session in others]
                if first != second and both:
                    moved = sum(sessions[session] != others[session] for session in both)
                    values[f"moved.{first}.{second}"] = moved / len(both)
                    kept = [s for s in both if self.machines.workers[sessions[s]].running]
                    strayed = sum(sessions[session] != others[session] for session in kept)
                    values[f"strayed.{first}.{second}"] = strayed / max(len(kept), 1)
