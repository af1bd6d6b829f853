"""The calls of berth.v1, with deadlines, retries and resumed streams."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from berth import errors
from berth.v1 import generation_pb2, inference_pb2, model_pb2, session_pb2

if TYPE_CHECKING:
    from google.protobuf.message import Message

_CHANNEL_OPTIONS = [
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", 64 << 20),
    # A server that froze, or is cut off, is told from one that thinks.
    ("grpc.keepalive_time_ms", 30000),
    ("grpc.keepalive_timeout_ms", 10000),
    ("grpc.http2.ping_timeout_ms", 10000),  # a minute else, whatever keepalive's is
    ("grpc.http2.max_pings_without_data", 0),
]
_ATTEMPTS = 8
_FIRST_PAUSE = 0.05

_Answer = TypeVar("_Answer", bound="Message")


@dataclass
class Connection:
    """How to reach a gateway. address: host:port of its gRPC port, or any gRPC target. The files are PEM; with none of
    them the connection is plain. timeout: seconds for each call unless it brings its own."""

    address: str
    api_key: str | None = None
    ca_certificates: str | None = None
    certificate: str | None = None
    certificate_key: str | None = None
    timeout: float | None = None

    def open(self) -> grpc.aio.Channel:
        if self.ca_certificates is None:
            return grpc.aio.insecure_channel(self.address, options=_CHANNEL_OPTIONS)
        pems = [_read(path) for path in (self.ca_certificates, self.certificate_key, self.certificate)]
        return grpc.aio.secure_channel(self.address, grpc.ssl_channel_credentials(*pems), options=_CHANNEL_OPTIONS)


def _read(path: str | None) -> bytes | None:
    if path is None:
        return None
    with open(path, "rb") as file:
        return file.read()


class Client:
    """One channel to a gateway or worker. Belongs to the event loop that it is made in."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._channel = connection.open()
        self._metadata = [("authorization", f"Bearer {connection.api_key}")] if connection.api_key else []

    async def close(self) -> None:
        await self._channel.close()

    async def generate(
        self, spec: generation_pb2.GenerationSpec, timeout: float | None = None
    ) -> inference_pb2.GenerateResponse:
        """The whole answer. One that is lost is asked for again under the same request id, so that a turn is never taken
        twice."""
        request = inference_pb2.GenerateRequest(generation=spec)
        return await self._unary("InferenceService/Generate", request, inference_pb2.GenerateResponse, timeout)

    async def stream(
        self, spec: generation_pb2.GenerationSpec, timeout: float | None = None
    ) -> AsyncGenerator[inference_pb2.StreamGenerateResponse, None]:
        """The messages of a stream. One that is lost goes on where it broke. Closing the generator cancels the
        request."""
        method = self._channel.unary_stream(
            "/berth.v1.InferenceService/StreamGenerate",
            request_serializer=inference_pb2.StreamGenerateRequest.SerializeToString,
            response_deserializer=inference_pb2.StreamGenerateResponse.FromString,
        )
        retries = self._retries(timeout)
        received: dict[int, list[int]] = {}  # by choice
        while True:
            call = method(
                inference_pb2.StreamGenerateRequest(generation=spec), timeout=retries.left(), metadata=self._metadata
            )
            try:
                async for message in call:
                    retries.progress()
                    spec.resume.next_seq = message.seq + 1
                    if message.HasField("started"):
                        spec.resume.model_fingerprint = message.started.model_fingerprint
                    spec.resume.prompt_logprobs += len(message.delta.prompt_logprobs)
                    if message.delta.token_ids:
                        received.setdefault(message.delta.choice_index, []).extend(message.delta.token_ids)
                    yield message
                return
            except grpc.aio.AioRpcError as error:
                failure = errors.from_rpc(error)
            finally:
                call.cancel()
            await retries.pause(failure)
            _take_over(spec, failure)
            if spec.HasField("resume"):
                del spec.resume.choices[:]
                for choice, token_ids in received.items():
                    spec.resume.choices.add(index=choice, token_ids=token_ids)

    async def cancel(self, request_id: str = "", session_id: str = "") -> bool:
        """Ends a request, or the running turn of a session. False when there is none."""
        request = inference_pb2.CancelRequest(request_id=request_id, session_id=session_id)
        return (await self._unary("InferenceService/Cancel", request, inference_pb2.CancelResponse)).found

    async def tokenize(self, prompt: generation_pb2.Prompt, model: str = "") -> list[int]:
        request = inference_pb2.TokenizeRequest(model=model, prompt=prompt)
        answer = await self._unary("InferenceService/Tokenize", request, inference_pb2.TokenizeResponse)
        return list(answer.token_ids)

    async def detokenize(self, token_ids: Sequence[int], model: str = "", skip_special_tokens: bool = True) -> str:
        request = inference_pb2.DetokenizeRequest(
            model=model, token_ids=token_ids, skip_special_tokens=skip_special_tokens
        )
        return (await self._unary("InferenceService/Detokenize", request, inference_pb2.DetokenizeResponse)).text

    async def models(self) -> list[model_pb2.Model]:
        request = model_pb2.ListModelsRequest()
        return list((await self._unary("ModelService/ListModels", request, model_pb2.ListModelsResponse)).models)

    async def get_session(self, session_id: str, model: str = "") -> session_pb2.GetSessionResponse:
        request = session_pb2.GetSessionRequest(session_id=session_id, model=model)
        return await self._unary("SessionService/GetSession", request, session_pb2.GetSessionResponse)

    async def close_session(self, session_id: str, model: str = "") -> bool:
        request = session_pb2.CloseSessionRequest(session_id=session_id, model=model)
        return (await self._unary("SessionService/CloseSession", request, session_pb2.CloseSessionResponse)).found

    async def fork_session(
        self, session_id: str, position: int | None = None, model: str = ""
    ) -> session_pb2.ForkSessionResponse:
        request = session_pb2.ForkSessionRequest(session_id=session_id, model=model, position=position)
        return await self._unary("SessionService/ForkSession", request, session_pb2.ForkSessionResponse)

    async def _unary(
        self, method: str, request: Message, answer: type[_Answer], timeout: float | None = None
    ) -> _Answer:
        call: Any = self._channel.unary_unary(
            f"/berth.v1.{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        retries = self._retries(timeout)
        while True:
            try:
                found: _Answer = await call(request, timeout=retries.left(), metadata=self._metadata)
                return found
            except grpc.aio.AioRpcError as error:
                failure = errors.from_rpc(error)
            await retries.pause(failure)
            if isinstance(request, inference_pb2.GenerateRequest):
                _take_over(request.generation, failure)

    def _retries(self, timeout: float | None) -> _Retries:
        return _Retries(self._connection.timeout if timeout is None else timeout)


def _take_over(spec: generation_pb2.GenerationSpec, failure: errors.BerthError) -> None:
    """A request that was lost may still run; its repetition is to go on with it."""
    if isinstance(failure, errors.UnavailableError):
        spec.resume.SetInParent()


class _Retries:
    """The attempts of one call: as many as make sense before its deadline."""

    def __init__(self, timeout: float | None) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._failures = 0

    def left(self) -> float | None:
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0)

    def progress(self) -> None:
        self._failures = 0

    async def pause(self, failure: errors.BerthError) -> None:
        """Waits as the server asks, or after a loss a little longer each time. Raises what should not be repeated."""
        self._failures += 1
        if failure.retry_after is not None:
            pause = failure.retry_after
        elif isinstance(failure, errors.UnavailableError):
            pause = _FIRST_PAUSE * 2 ** (self._failures - 1)
        else:
            raise failure
        pause *= random.uniform(1, 1.25)  # callers that were turned away together do not come back together
        left = self.left()
        if self._failures == _ATTEMPTS or (left is not None and pause >= left):
            raise failure
        await asyncio.sleep(pause)
