"""Callers: what they send, and what they saw of its answer."""
import asyncio
import json
import random
import ssl
import time
from dataclasses import dataclass, field

import grpc
import httpx

import protocol

RESUMES = 6
WORDS = "the ship lies at her berth while rain falls on iron rails and a gull counts the hours of night".split()
CHANNEL_OPTIONS = [("grpc.enable_retries", 0), ("grpc.max_receive_message_length", 64 << 20), ("grpc.http2.bdp_probe", 0)]


@dataclass
class Outcome:
    load: str
    key: tuple  # of the conversation and the turn: the same in the undisturbed run
    session: str = ""
    code: str = "CANCELLED"
    reason: str = ""
    texts: dict = field(default_factory=dict)
    ids: dict = field(default_factory=dict)
    logprobs: dict = field(default_factory=dict)
    seq: int = 0
    seq_broken: bool = False
    path: list = field(default_factory=list)  # (when this was learnt, worker)
    affinity: str = ""
    retry_info: bool = False
    resumed: int = 0  # by a Resumed event, or by the caller through another gateway
    gaps: list = field(default_factory=list)  # seconds: last tokens before a resume to first after
    between: list = field(default_factory=list)  # seconds between two messages with tokens, resumes aside
    resumed_at: list = field(default_factory=list)
    began: float = 0
    ended: float = 0
    first: float = 0
    last: float = 0
    deadline: float = 0
    failed: str = ""  # why, in words; empty: it went well

    def output(self):
        return {index: text for index, text in self.texts.items() if text}, self.ids, self.logprobs

    @property
    def worker(self):
        """The last one; empty when no answer named any."""
        return self.path[-1][1] if self.path else ""

    def at(self, worker):
        self.path.append((time.monotonic(), worker))

    def was_hit(self, moment, worker):
        """Open at the worker, or anywhere when that is None, when something was done to it."""
        if not self.began < moment < (self.ended or moment + 1) or not self.path:
            return False
        before = [name for when, name in self.path if when <= moment] or [self.path[0][1]]
        return worker in (None, before[-1])

    def arrived(self):
        now = time.monotonic()
        self.first = self.first or now
        if len(self.resumed_at) < self.resumed:
            self.resumed_at.append(now)
            if self.last:
                self.gaps.append(now - self.last)
        elif self.last:
            self.between.append(now - self.last)
        self.last = now


class Request:
    """One turn of one conversation, the same whoever sends it."""

    def __init__(self, load, seed, index, turn):
        self.load, self.index, self.turn = load, index, turn
        self.random = random.Random(f"{seed}/{load.name}/{index}/{turn}")
        self.session = f"{load.session_prefix()}-{index}" if load.session != "none" else ""
        self.seed = 0 if load.same_prompt else self.random.getrandbits(63)
        self.deadline = self.random.uniform(*load.deadline_s) if load.deadline_s else None

    @property
    def key(self):
        return self.load.name, self.index, self.turn

    def text(self):
        who = 0 if self.load.same_prompt else self.index
        draw = random.Random(f"{self.load.name}/{who}")
        words = [" ".join(draw.choices(WORDS, k=self.load.prompt_words)) for _ in range(self.turn + 1)]
        return words[self.turn] if self.load.session == "interactive" else " ".join(words)

    def spec(self):
        load = self.load
        spec = protocol.GenerationSpec(request_id=f"{load.name}-{self.index}-{self.turn}", session_id=self.session, priority=load.priority)
        if load.prompt_tokens:
            spec.prompt.token_ids.ids.extend(load.prompt_tokens)
        else:
            spec.prompt.text = self.text()
        spec.sampling.temperature = load.temperature
        spec.sampling.seed = self.seed
        spec.sampling.choice_count = load.n
        spec.stop.max_tokens = load.max_tokens
        spec.stop.ignore_eos = True
        spec.stop.stop_strings.extend(load.stop)
        spec.output.token_ids = True
        if load.logprobs >= 0:
            spec.output.top_logprobs = load.logprobs
        if load.session == "interactive":
            spec.session.mode = protocol.INTERACTIVE
            spec.session.start = self.turn == 0
        if load.hostile:
            self._spoil(spec)
        return spec

    def _spoil(self, spec):
        draw = random.Random(self.seed)
        numbers = [0, -1, 1, 3, 2**31 - 1, -(2**31), 129]
        floats = [float("nan"), float("inf"), -1.0, 0.0, 3.0, 1e30]
        for _ in range(draw.randint(1, 3)):
            draw.choice([
                lambda: setattr(spec.sampling, "temperature", draw.choice(floats)),
                lambda: setattr(spec.sampling, "top_p", draw.choice(floats)),
                lambda: setattr(spec.sampling, "repetition_penalty", draw.choice(floats)),
                lambda: setattr(spec.sampling, "top_k", draw.choice(numbers)),
                lambda: setattr(spec.sampling, "choice_count", draw.choice(numbers)),
                lambda: setattr(spec.stop, "max_tokens", draw.choice([0, -1, -(2**31), 2])),
                lambda: setattr(spec.stop, "min_tokens", draw.choice(numbers)),
                lambda: setattr(spec.output, "top_logprobs", draw.choice(numbers)),
                lambda: spec.stop.stop_strings.extend(["x"] * draw.choice([1, 17, 400])),
                lambda: spec.prompt.token_ids.ids.extend(draw.choices(numbers, k=5)),
                lambda: spec.sampling.logit_bias.update({draw.choice(numbers): draw.choice(floats)}),
                lambda: setattr(spec, "session_id", "s" * draw.choice([1, 257, 5000])),
                lambda: setattr(spec, "session_id", "a~b"),
                lambda: setattr(spec, "model", draw.choice(["", "none", "ü" * 300])),
                lambda: setattr(spec, "priority", draw.choice(numbers)),
                lambda: setattr(spec.prompt, "text", draw.choice(["", "x" * 100_000, "\0"])),
                lambda: setattr(spec.session, "position", draw.choice(numbers)),
                lambda: setattr(spec.resume, "next_seq", 2**63),
            ])()  # fmt: skip

    def json(self):
        load = self.load
        body = {
            "model": "sim", "prompt": load.prompt_tokens or self.text(), "max_tokens": load.max_tokens, "stream": True, "n": load.n,
            "temperature": load.temperature, "seed": self.seed, "ignore_eos": True,
        }  # fmt: skip
        if load.stop:
            body["stop"] = load.stop
        if self.session:
            body["session_id"] = self.session
        return body


class Gateways:
    """Connections to every gateway; each load names the one that its callers use first."""

    def __init__(self, machines):
        ca = machines.certificates and machines.certificates.ca
        self.channels = [self._channel(f"127.0.0.1:{gateway.ports['grpc']}", ca) for gateway in machines.gateways]
        self.urls = [f"http{'s' * bool(ca)}://127.0.0.1:{gateway.ports['http']}" for gateway in machines.gateways]
        verify = ssl.create_default_context(cafile=ca) if ca else True
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self.http = httpx.AsyncClient(timeout=None, limits=limits, verify=verify)

    @staticmethod
    def _channel(address, ca):
        if not ca:
            return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        with open(ca, "rb") as file:
            return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(file.read()), options=CHANNEL_OPTIONS)

    def first_for(self, request):
        if request.load.gateway == "spread":
            return request.index % len(self.channels)
        return len(self.channels) - 1 if request.load.gateway == "last" else 0

    async def close(self):
        await self.http.aclose()
        for channel in self.channels:
            await channel.close()


async def call(request, gateways, outcome, on_tokens):
    """Sends one turn and follows its answer to the end."""
    outcome.began = time.monotonic()
    outcome.deadline = request.deadline or 0
    try:
        await (_over_http if request.load.via == "http" else _over_grpc)(request, gateways, outcome, on_tokens)
    finally:
        outcome.ended = time.monotonic()
    return outcome


async def undisturbed(request, gateways):
    """(texts, ids, log-probabilities) as Outcome.output() has them."""
    answer = await protocol.generate(gateways.channels[0])(protocol.GenerateRequest(generation=request.spec()))
    texts = {c.index: c.text for c in answer.choices if c.text}
    if request.load.via == "http":
        return texts, {}, {}
    logprobs = {c.index: [round(p.logprob, 4) for p in c.logprobs] for c in answer.choices if c.logprobs}
    return texts, {c.index: list(c.token_ids) for c in answer.choices}, logprobs


async def _over_grpc(request, gateways, outcome, on_tokens):
    spec = request.spec()
    at = gateways.first_for(request)
    for attempt in range(RESUMES):
        try:
            await _read_grpc(spec, gateways.channels[at], request, outcome, on_tokens)
            outcome.code = "OK"
            return
        except grpc.aio.AioRpcError as error:
            outcome.code = error.code().name
            outcome.reason, outcome.retry_info = protocol.error_details(error)
        except asyncio.CancelledError:
            if asyncio.current_task().cancelling():
                raise
            return  # the caller's own cancel
        if request.load.client != "resume" or outcome.code != "UNAVAILABLE":
            return
        at = (at + 1) % len(gateways.channels)
        outcome.resumed += outcome.seq > 0
        if outcome.seq > 0:
            spec.resume.next_seq = outcome.seq
            del spec.resume.choices[:]
            for index, ids in outcome.ids.items():
                spec.resume.choices.add(index=index, token_ids=ids)
        await asyncio.sleep(0.05 * 2**attempt)


async def _read_grpc(spec, channel, request, outcome, on_tokens):
    stream = protocol.stream_generate(channel)(protocol.StreamGenerateRequest(generation=spec), timeout=request.deadline)
    received = 0
    async for message in stream:
        outcome.seq_broken = outcome.seq_broken or message.seq != outcome.seq
        outcome.seq = message.seq + 1
        event = message.WhichOneof("event")
        if event == "started":
            outcome.at(message.started.worker_id)
            outcome.affinity = protocol.AFFINITIES.get(message.started.affinity, "")
            spec.resume.model_fingerprint = message.started.model_fingerprint
        elif event == "resumed":
            outcome.resumed += 1
            outcome.at(message.resumed.worker_id)
        elif event == "delta":
            _take_delta(message.delta, outcome)
            received += len(message.delta.token_ids)
            on_tokens(len(message.delta.token_ids))
            if request.load.cancel_after_tokens and received >= request.load.cancel_after_tokens:
                stream.cancel()
            if request.load.read_pause_s:
                await asyncio.sleep(request.load.read_pause_s)


def _take_delta(delta, outcome):
    index = delta.choice_index
    ids = outcome.ids.setdefault(index, [])
    if delta.token_ids and delta.first_token_index != len(ids):
        outcome.seq_broken = True
    ids.extend(delta.token_ids)
    outcome.texts[index] = outcome.texts.get(index, "") + delta.text
    if delta.logprobs:
        outcome.logprobs.setdefault(index, []).extend(round(p.logprob, 4) for p in delta.logprobs)
    if delta.token_ids:
        outcome.arrived()


async def _over_http(request, gateways, outcome, on_tokens):
    url = gateways.urls[gateways.first_for(request)] + "/v1/completions"
    try:
        async with gateways.http.stream("POST", url, json=request.json()) as response:
            outcome.at(response.headers.get("x-worker-hint", "").split("/")[0])
            outcome.code = "OK" if response.status_code == 200 else f"HTTP_{response.status_code}"
            done = response.status_code != 200
            async for line in response.aiter_lines():
                if line == "data: [DONE]":
                    done = True
                elif line.startswith("data: "):
                    _take_event(json.loads(line[6:]), outcome, on_tokens)
            if not done and outcome.code == "OK":
                outcome.code, outcome.reason = "HTTP_CUT", "the stream ended without [DONE] or an error event"
    except httpx.HTTPError as error:
        outcome.code, outcome.reason = "HTTP_CUT", type(error).__name__


def _take_event(event, outcome, on_tokens):
    if "error" in event:
        outcome.code, outcome.reason = "HTTP_ERROR_EVENT", str(event["error"].get("code"))
        return
    for choice in event.get("choices", []):
        outcome.texts[choice["index"]] = outcome.texts.get(choice["index"], "") + choice["text"]
        if choice["text"]:
            outcome.arrived()
            on_tokens(1)
