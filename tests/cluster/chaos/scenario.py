"""A scenario file: cluster, loads, events, checks. What it does not know, it refuses."""
import dataclasses
import os
import tomllib
from dataclasses import dataclass, field

MAX_WORKERS, MAX_REQUESTS, MAX_SECONDS = 16, 200_000, 3600
JOURNALS = ("memory", "sqlite", "redis")
DOINGS = (
    "run", "begin", "settle", "kill", "freeze", "thaw", "terminate", "start", "restart", "replace", "measure", "rotate", "partition", "heal",
    "kill_gateway", "terminate_gateway", "start_gateway", "replace_gateway",
)  # fmt: skip


class BadScenario(ValueError):
    pass


@dataclass
class ClusterPlan:
    workers: int = 4
    gateways: int = 1
    journal: str = "memory"  # or sqlite: one file for all workers; or redis: a server of its own
    model: str = ""  # folder in the repository: its config.json with random weights on the CPU, instead of the simulated engine
    worker_arguments: list = field(default_factory=list)
    only: dict = field(default_factory=dict)  # worker id -> more arguments for that one
    gateway_arguments: list = field(default_factory=list)
    spare: int = 0  # workers that gateways know and that only a `start` event starts
    tls: bool = False  # callers and links over TLS, links with certificates on both sides
    proxied: bool = False  # links go through a proxy that can drop what it is given


@dataclass
class Load:
    name: str
    streams: int = 0  # conversations; with `rate` it is rate * seconds
    rate: float = 0  # open loop: conversations begun per second, whatever becomes of the others
    seconds: float = 0
    in_flight: int = 0  # closed loop: conversations at once; 0: all
    foreground: bool = False  # begun by a `run` event, which waits for its end, or by `begin`; else begun at once
    via: str = "grpc"  # or http
    client: str = "plain"  # or resume: what the client library does when its gateway goes
    gateway: str = "first"  # or spread, last
    session: str = "none"  # affinity: the id only routes; interactive: the worker keeps the history
    sessions: str = ""  # prefix of session ids; default: the load's name
    turns: int = 1
    prompt_words: int = 12
    same_prompt: bool = False
    max_tokens: int = 256
    temperature: float = 1
    n: int = 1
    logprobs: int = -1
    stop: list = field(default_factory=list)
    prompt_tokens: list = field(default_factory=list)  # instead of words
    priority: int = 0
    deadline_s: list = field(default_factory=list)  # [from, to]: drawn evenly
    cancel_after_tokens: int = 0
    read_pause_s: float = 0
    hostile: bool = False  # fields drawn at random, most of them wrong
    allowed: list = field(default_factory=list)  # codes and reasons that are no failure
    compare: bool = True  # with the undisturbed run

    def conversations(self):
        return int(self.rate * self.seconds) if self.rate else self.streams

    def session_prefix(self):
        return self.sessions or self.name


@dataclass
class Event:
    do: str
    worker: str = ""  # an id; busiest: most open streams at a gateway; next: one after the other; same: as last
    gateway: int = -1  # the last one
    load: str = ""
    after_s: float = 0  # since the event before
    after_tokens: int = 0  # received by all callers since the start
    repeat: int = 1


@dataclass
class Bound:
    min: float = float("-inf")
    max: float = float("inf")

    def holds(self, value):
        return self.min <= value <= self.max

    def __str__(self):
        words = [f"≥ {self.min:g}"] * (self.min > float("-inf")) + [f"≤ {self.max:g}"] * (self.max < float("inf"))
        return words[0] if len(words) == 1 else f"{self.min:g} … {self.max:g}"


@dataclass
class Scenario:
    name: str
    title: str
    row: str = ""
    slow: bool = False
    seed: int = 1
    time_limit_s: float = 60
    cluster: ClusterPlan = None
    load: list = field(default_factory=list)
    events: list = field(default_factory=list)
    valid: dict = field(default_factory=dict)  # else the run proves nothing: INVALID
    checks: dict = field(default_factory=dict)


def _build(kind, values, where):
    known = {f.name for f in dataclasses.fields(kind)}
    for key in values:
        if key not in known:
            raise BadScenario(f"{where}: {key} is not known; known: {', '.join(sorted(known))}")
    try:
        return kind(**values)
    except TypeError as error:
        raise BadScenario(f"{where}: {error}") from None


def _validate(scenario):
    cluster = scenario.cluster
    if not 1 <= cluster.workers <= MAX_WORKERS:
        raise BadScenario(f"{scenario.name}: workers is {cluster.workers}, want 1 … {MAX_WORKERS}")
    if cluster.journal not in JOURNALS:
        raise BadScenario(f"{scenario.name}: journal is {cluster.journal!r}, want one of {', '.join(JOURNALS)}")
    requests = sum(load.conversations() * load.turns for load in scenario.load)
    if not 1 <= requests <= MAX_REQUESTS:
        raise BadScenario(f"{scenario.name}: the loads are {requests} requests, want 1 … {MAX_REQUESTS}")
    if not 0 < scenario.time_limit_s <= MAX_SECONDS:
        raise BadScenario(f"{scenario.name}: time_limit_s is {scenario.time_limit_s}, want at most {MAX_SECONDS}")
    loads = {load.name: load for load in scenario.load}
    for event in scenario.events:
        if event.do not in DOINGS:
            raise BadScenario(f"{scenario.name}: events: do is {event.do!r}, want one of {', '.join(DOINGS)}")
        if event.do in ("run", "begin") and not (event.load in loads and loads[event.load].foreground):
            raise BadScenario(f"{scenario.name}: events: {event.do} wants a load with foreground = true, not {event.load!r}")


def read(path):
    name = os.path.splitext(os.path.basename(path))[0]
    try:
        with open(path, "rb") as file:
            values = tomllib.load(file)
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BadScenario(f"{path}: {error}") from None
    values["cluster"] = _build(ClusterPlan, values.get("cluster", {}), f"{name}: cluster")
    for key, kind in (("load", Load), ("events", Event)):
        values[key] = [_build(kind, entry, f"{name}: {key}") for entry in values.get(key, [])]
    for key in ("valid", "checks"):
        values[key] = {figure: _build(Bound, bound, f"{name}: {key}.{figure}") for figure, bound in values.get(key, {}).items()}
    scenario = _build(Scenario, {"name": name, **values}, name)
    _validate(scenario)
    return scenario
