"""Prompts in, answers out, for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncGenerator, Coroutine, Sequence
from types import TracebackType
from typing import Any, TypeVar

from berth import errors
from berth.client import Client, Connection
from berth.engine import EngineConfig, LocalServer
from berth.generation import (
    GenerationConfig,
    Prompt,
    Response,
    StreamReader,
    make_prompt,
    new_spec,
    read_answers,
    split_prompts,
)
from berth.lmdeploy import PipelineOptions, take
from berth.session import Session
from berth.target import is_address
from berth.v1 import generation_pb2 as v1

_IN_FLIGHT = 256  # prompts of one list that are on their way at once
_GONE = ("SESSION_NOT_FOUND", "SESSION_LOST")
_T = TypeVar("_T")
Configs = GenerationConfig | Sequence[GenerationConfig] | None
"""One for all prompts, or one for each."""


class AsyncPipeline:
    """Prompts in, answers out, for asyncio. `async with` opens it; one that runs in another loop is another pipeline.

    model: a GGUF file, a Hugging Face directory or org/name of its hub, served by a cluster of its own until the end; or
    host:port of a gateway's gRPC port. config: of the own cluster. timeout: seconds for each call. api_key, ca_certificates,
    certificate, certificate_key: for a gateway that asks for them. Other keywords of LMDeploy's are those of PipelineOptions.
    """

    def __init__(self, model: str, config: EngineConfig | None = None, **connection: Any) -> None:
        self._target = os.fspath(model)
        self._config = config or EngineConfig()
        self._is_address = is_address(self._target)
        self._connection = Connection("", **take(PipelineOptions, connection))
        self._server: LocalServer | None = None
        self._client: Client | None = None
        self.model_name = self._config.model_name or "" if self._is_address else ""

    async def __aenter__(self) -> AsyncPipeline:
        if self._is_address:
            self._connection.address = self._target
        else:
            self._server = await asyncio.to_thread(LocalServer, self._target, self._config)
            self._connection.address = self._server.address
        self._client = Client(self._connection)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Returns when the own cluster's processes are gone."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        if self._server is not None:
            await asyncio.to_thread(self._server.close)

    @property
    def client(self) -> Client:
        if self._client is None:
            raise errors.invalid("pipeline", "is closed, or not opened with `async with`")
        return self._client

    @property
    def server(self) -> LocalServer | None:
        """The own cluster."""
        return self._server

    async def __call__(
        self,
        prompts: Any,
        gen_config: Configs = None,
        do_preprocess: bool = True,
        timeout: float | None = None,
    ) -> Any:
        """A Response for one prompt, a list of them for a list. With `n` of the config above 1 a prompt has so many
        Responses, and a list holds those of all prompts in turn."""
        listed, single = split_prompts(prompts)
        specs = self._specs(listed, gen_config, do_preprocess)
        room = asyncio.Semaphore(_IN_FLIGHT)

        async def answer(index: int, spec: v1.GenerationSpec) -> list[Response]:
            async with room:
                return read_answers(await self.client.generate(spec, timeout), index, index)

        found = await _together([answer(index, spec) for index, spec in enumerate(specs)])
        answers = [each for of_prompt in found for each in of_prompt]
        return answers[0] if single and len(answers) == 1 else answers

    async def stream_infer(
        self,
        prompts: Any,
        gen_config: Configs = None,
        do_preprocess: bool = True,
        timeout: float | None = None,
    ) -> AsyncGenerator[Response, None]:
        """Pieces of the answers as they come; `index` and `choice` say to which prompt and answer one belongs.
        Leaving the loop cancels the rest."""
        specs = self._specs(split_prompts(prompts)[0], gen_config, do_preprocess)
        pieces: asyncio.Queue[Response] = asyncio.Queue(_IN_FLIGHT)
        room = asyncio.Semaphore(_IN_FLIGHT)

        async def follow(index: int, spec: v1.GenerationSpec) -> None:
            async with room, contextlib.aclosing(self._pieces(StreamReader(index, index), spec, timeout)) as stream:
                async for piece in stream:
                    await pieces.put(piece)

        async def follow_all() -> None:
            await _together([follow(index, spec) for index, spec in enumerate(specs)])

        following = asyncio.create_task(follow_all())
        try:
            while not (following.done() and pieces.empty()):
                getting = asyncio.create_task(pieces.get())
                try:
                    await asyncio.wait({getting, following}, return_when=asyncio.FIRST_COMPLETED)
                    if getting.done():
                        yield getting.result()
                finally:
                    getting.cancel()
            following.result()
        finally:
            following.cancel()
            await asyncio.wait({following})

    def session(self) -> Session:
        """A new conversation; the first turn opens it on the server."""
        return Session(f"py-{uuid.uuid4().hex}")

    async def chat(
        self,
        prompt: Prompt,
        session: Session | None = None,
        gen_config: GenerationConfig | None = None,
        position: int | None = None,
        timeout: float | None = None,
    ) -> Session:
        """One turn; the answer is the session's `response`. position: tokens of history to keep, all by default."""
        session = session or self.session()
        async with contextlib.aclosing(self.stream_chat(prompt, session, gen_config, position, timeout)) as pieces:
            async for _ in pieces:
                pass
        return session

    async def stream_chat(
        self,
        prompt: Prompt,
        session: Session,
        gen_config: GenerationConfig | None = None,
        position: int | None = None,
        timeout: float | None = None,
    ) -> AsyncGenerator[Response, None]:
        """The pieces of one turn's answer. Leaving the loop ends the turn; what was generated stays in the history."""
        spec = session.turn(prompt, gen_config or GenerationConfig(), self.model_name, position)
        session.response = None
        reader = StreamReader(0, session.session_id)
        try:
            async with contextlib.aclosing(self._pieces(reader, spec, timeout)) as pieces:
                async for piece in pieces:
                    session.add(prompt, piece, reader.position)
                    yield piece
        except errors.BerthError as error:
            if error.reason in _GONE:
                session.forget()
            raise

    async def fork(self, session: Session, position: int | None = None) -> Session:
        """Another conversation with the same history, or the first `position` tokens of it."""
        forked = await self.client.fork_session(session.session_id, position, self.model_name)
        branch = Session(forked.session_id)
        branch.position, branch.is_open = forked.position, True
        branch.history = list(session.history) if position is None else []
        return branch

    async def close_session(self, session: Session) -> None:
        """Frees the history; the next turn begins another."""
        if session.is_open:
            await self.client.close_session(session.session_id, self.model_name)
        session.forget()

    def _specs(self, prompts: list[Any], configs: Configs, do_preprocess: bool) -> list[v1.GenerationSpec]:
        if configs is None:
            configs = GenerationConfig()
        each = [configs] * len(prompts) if isinstance(configs, GenerationConfig) else list(configs)
        if len(each) != len(prompts):
            raise errors.invalid("gen_config", f"has {len(each)} entries for {len(prompts)} prompts")
        return [new_spec(make_prompt(p, do_preprocess), config, self.model_name) for p, config in zip(prompts, each)]

    async def _pieces(
        self, reader: StreamReader, spec: v1.GenerationSpec, timeout: float | None
    ) -> AsyncGenerator[Response, None]:
        async with contextlib.aclosing(self.client.stream(spec, timeout)) as messages:
            async for message in messages:
                for piece in reader.read(message):
                    yield piece


async def _together(work: list[Coroutine[Any, Any, _T]]) -> list[_T]:
    """All results; the first failure cancels the others."""
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
