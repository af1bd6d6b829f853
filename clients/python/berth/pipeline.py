"""pipeline(): prompts in, answers out, from a model on this machine or from a server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import uuid
from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, TypeVar, cast, overload

from berth import errors
from berth.background import Background, background
from berth.client import Client, Connection
from berth.engine import EngineConfig, LocalServer
from berth.generation import (
    GenerationConfig,
    Message,
    Prompt,
    Response,
    StreamReader,
    make_prompt,
    new_spec,
    read_answer,
    split_prompts,
)
from berth.v1 import generation_pb2 as v1

_IN_FLIGHT = 256  # prompts of one list that are on their way at once
_GONE = ("SESSION_NOT_FOUND", "SESSION_LOST")
_T = TypeVar("_T")
Configs = GenerationConfig | Sequence[GenerationConfig] | None
"""One for all prompts, or one for each."""


class Session:
    """A conversation whose history the server keeps. history: (prompt, answer) of each turn. position: tokens of
    history."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        self.history: list[tuple[Prompt, str]] = []
        self.response: Response | None = None
        self.position = 0
        self.is_open = False

    def turn(self, prompt: Prompt, config: GenerationConfig, model: str, position: int | None) -> v1.GenerationSpec:
        """The request for the next turn."""
        spec = new_spec(make_prompt(prompt), config, model)
        spec.session_id = self.session_id
        spec.session.mode = v1.SESSION_MODE_INTERACTIVE
        spec.session.start = not self.is_open
        spec.session.replace = not self.is_open  # a first turn that failed half-way may have opened it
        if position is not None and self.is_open:
            spec.session.position = position
        return spec

    def add(self, prompt: Prompt, piece: Response, position: int) -> None:
        """Takes a piece of the running turn's answer; `position` is 0 until its last one."""
        if self.response is None:
            self.response = Response("", 0, 0, self.session_id)
            self.history.append((prompt, ""))
        whole = self.response
        whole.text += piece.text
        whole.reasoning += piece.reasoning
        whole.token_ids += piece.token_ids
        if piece.logprobs is not None:
            whole.logprobs = (whole.logprobs or []) + piece.logprobs
        whole.generate_token_len = piece.generate_token_len
        whole.input_token_len = piece.input_token_len
        whole.cached_tokens = piece.cached_tokens
        whole.finish_reason = piece.finish_reason
        self.history[-1] = (prompt, whole.text)
        self.is_open = True
        self.position = position or self.position

    def forget(self) -> None:
        """The next turn begins another conversation under the same id."""
        self.is_open, self.position, self.response = False, 0, None
        self.history.clear()


class AsyncPipeline:
    """Prompts in, answers out, for asyncio. `async with` opens it; one that runs in another loop is another pipeline.

    model: a GGUF file or Hugging Face directory, served by a cluster of its own until the end; or host:port of a
    gateway's gRPC port. config: of the own cluster. timeout: seconds for each call. api_key, ca_certificates,
    certificate, certificate_key: for a gateway that asks for them.
    """

    def __init__(self, model: str, config: EngineConfig | None = None, **connection: Any) -> None:
        self._target = os.fspath(model)
        self._config = config or EngineConfig()
        self._is_address = is_address(self._target)
        self._connection = Connection("", **connection)
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
        """A Response for one prompt, a list of them for a list."""
        listed, single = split_prompts(prompts)
        specs = self._specs(listed, gen_config, do_preprocess)
        room = asyncio.Semaphore(_IN_FLIGHT)

        async def answer(index: int, spec: v1.GenerationSpec) -> Response:
            async with room:
                return read_answer(await self.client.generate(spec, timeout), index, index)

        answers = await _together([answer(index, spec) for index, spec in enumerate(specs)])
        return answers[0] if single else answers

    async def stream_infer(
        self,
        prompts: Any,
        gen_config: Configs = None,
        do_preprocess: bool = True,
        timeout: float | None = None,
    ) -> AsyncGenerator[Response, None]:
        """Pieces of the answers as they come; `index` says to which prompt one belongs. Leaving the loop cancels the
        rest."""
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
                await asyncio.wait({getting, following}, return_when=asyncio.FIRST_COMPLETED)
                if getting.done():
                    yield getting.result()
                else:
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
                piece = reader.read(message)
                if piece is not None:
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


class ChatSession(Session):
    """A session of a Pipeline. `with pipe.session() as session:` closes it."""

    def __init__(self, session: Session, pipe: Pipeline) -> None:
        super().__init__(session.session_id)
        self.__dict__.update(session.__dict__)
        self._pipe = pipe

    def __enter__(self) -> ChatSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the history; the next turn begins another."""
        self._pipe.close_session(self)

    def cancel(self) -> bool:
        """Ends the running turn, from any thread; what was generated stays. False when none runs."""
        return self._pipe.cancel(self)

    def fork(self, position: int | None = None) -> ChatSession:
        """Another conversation with the same history, or the first `position` tokens of it."""
        return self._pipe.fork(self, position)


class Pipeline:
    """AsyncPipeline's calls for programs without an event loop. Thread: any, several at once."""

    def __init__(self, model: str, config: EngineConfig | None = None, **connection: Any) -> None:
        self._background: Background = background()
        self._pipe = AsyncPipeline(model, config, **connection)
        self._background.run(self._pipe.__aenter__())

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Returns when the own cluster's processes are gone."""
        self._background.run(self._pipe.close())

    @property
    def server(self) -> LocalServer | None:
        """The own cluster."""
        return self._pipe.server

    @property
    def client(self) -> Client:
        """The calls of berth.v1; hand them to run() or iterate()."""
        return self._pipe.client

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        return self._background.run(work)

    def iterate(self, items: AsyncGenerator[_T, None]) -> Iterator[_T]:
        return self._background.iterate(items)

    @overload
    def __call__(
        self, prompts: str, gen_config: Configs = ..., do_preprocess: bool = ..., timeout: float | None = ...
    ) -> Response: ...

    @overload
    def __call__(
        self,
        prompts: list[str] | list[list[Message]] | list[Prompt],
        gen_config: Configs = ...,
        do_preprocess: bool = ...,
        timeout: float | None = ...,
    ) -> list[Response]: ...

    @overload
    def __call__(
        self,
        prompts: Sequence[Message],
        gen_config: Configs = ...,
        do_preprocess: bool = ...,
        timeout: float | None = ...,
    ) -> Response: ...

    def __call__(
        self, prompts: Any, gen_config: Configs = None, do_preprocess: bool = True, timeout: float | None = None
    ) -> Response | list[Response]:
        """A Response for one prompt, a list of them for a list."""
        found = self.run(self._pipe(prompts, gen_config, do_preprocess, timeout))
        return cast("Response | list[Response]", found)

    def stream_infer(
        self, prompts: Any, gen_config: Configs = None, do_preprocess: bool = True, timeout: float | None = None
    ) -> Iterator[Response]:
        """Pieces of the answers as they come; `index` says to which prompt one belongs. Leaving the loop cancels the
        rest."""
        return self.iterate(self._pipe.stream_infer(prompts, gen_config, do_preprocess, timeout))

    def session(self) -> ChatSession:
        """A new conversation; the first turn opens it on the server."""
        return ChatSession(self._pipe.session(), self)

    @overload
    def chat(
        self,
        prompt: Prompt,
        session: ChatSession | None = ...,
        gen_config: GenerationConfig | None = ...,
        *,
        position: int | None = ...,
        timeout: float | None = ...,
    ) -> ChatSession: ...

    @overload
    def chat(
        self,
        prompt: Prompt,
        session: ChatSession | None = ...,
        gen_config: GenerationConfig | None = ...,
        stream_response: bool = ...,
        *,
        position: int | None = ...,
        timeout: float | None = ...,
    ) -> ChatSession | Iterator[Response]: ...

    def chat(
        self,
        prompt: Prompt,
        session: ChatSession | None = None,
        gen_config: GenerationConfig | None = None,
        stream_response: bool = False,
        *,
        position: int | None = None,
        timeout: float | None = None,
    ) -> ChatSession | Iterator[Response]:
        """One turn. The session, whose `response` is the answer; with `stream_response` the answer's pieces."""
        session = session or self.session()
        if stream_response:
            return self.iterate(self._pipe.stream_chat(prompt, session, gen_config, position, timeout))
        self.run(self._pipe.chat(prompt, session, gen_config, position, timeout))
        return session

    def cancel(self, session: Session) -> bool:
        return self.run(self.client.cancel(session_id=session.session_id))

    def fork(self, session: Session, position: int | None = None) -> ChatSession:
        return ChatSession(self.run(self._pipe.fork(session, position)), self)

    def close_session(self, session: Session) -> None:
        self.run(self._pipe.close_session(session))


def pipeline(model: str, backend_config: EngineConfig | None = None, **connection: Any) -> Pipeline:
    """A Pipeline for a model path or a gateway's address; see AsyncPipeline for the keywords."""
    return Pipeline(model, backend_config, **connection)


def is_address(target: str) -> bool:
    """Whether a target is a server; else it is a model on this machine. An error for what is neither."""
    if os.path.exists(target):
        return False
    if re.fullmatch(r"(?:[a-z]+:///?)?[\w.\-]+:\d+|\[[0-9a-fA-F:]+\]:\d+|(?:dns|ipv4|ipv6|unix):\S+", target):
        if target.startswith(("http://", "https://")):
            raise errors.invalid(
                "model", f"is {target!r}: give the gRPC port as host:port (23334 by default), not the HTTP one"
            )
        return True
    if re.fullmatch(r"[\w.\-]+/[\w.\-]+-4bit", target):
        raise errors.unsupported(
            f"{target!r} (4-bit weights)", "pass a GGUF file or an unquantised Hugging Face directory"
        )
    if re.fullmatch(r"[\w.\-]+/[\w.\-]+", target):
        raise errors.invalid(
            "model", f"is {target!r}, which is not on this machine: download it and pass its directory"
        )
    raise errors.invalid("model", f"is {target!r}: neither a file or directory nor host:port of a server")
