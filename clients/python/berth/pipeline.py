"""pipeline(): prompts in, answers out, from a model on this machine or from a server, without an event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar, cast, overload

from berth.async_pipeline import AsyncPipeline, Configs
from berth.background import Background, background
from berth.client import Client
from berth.engine import EngineConfig, LocalServer
from berth.generation import GenerationConfig, Message, Prompt, Response
from berth.session import Session

_T = TypeVar("_T")


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

    def follow(self, items: AsyncGenerator[_T, None]) -> AsyncGenerator[_T, None]:
        """iterate() for a caller with an event loop of its own."""
        return self._background.follow(items)

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
        """A Response for one prompt, a list of them for a list, or for several choices of one."""
        found = self.run(self._pipe(prompts, gen_config, do_preprocess, timeout))
        return cast("Response | list[Response]", found)

    def stream_infer(
        self, prompts: Any, gen_config: Configs = None, do_preprocess: bool = True, timeout: float | None = None
    ) -> Iterator[Response]:
        """Pieces of the answers as they come; as those of AsyncPipeline. Leaving the loop cancels the rest."""
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


def pipeline(
    model: str, backend_config: EngineConfig | None = None, *, model_name: str | None = None, **connection: Any
) -> Pipeline:
    """A Pipeline for a model path or a gateway's address; see AsyncPipeline for the keywords. model_name: in place of
    backend_config's."""
    if model_name is not None:
        backend_config = replace(backend_config or EngineConfig(), model_name=model_name)
    return Pipeline(model, backend_config, **connection)
