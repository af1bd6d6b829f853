"""The calls of LMDeploy's TurboMind: token ids in and out, sessions by number, over a Pipeline's connection.

from berth import turbomind as tm
tm_model = tm.TurboMind.from_pretrained("model.gguf")
generator = tm_model.create_instance()
input_ids = tm_model.tokenizer.encode(tm_model.model.get_prompt("Hello"))
for outputs in generator.stream_infer(session_id=0, input_ids=[input_ids]):
    res, tokens = outputs[0]                 # or: status, res, tokens = outputs
print(tm_model.tokenizer.decode(res.tolist()))
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import uuid
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from berth import errors
from berth.engine import EngineConfig
from berth.generation import GenerationConfig, StreamReader, new_spec
from berth.lmdeploy import TurnOptions, take
from berth.pipeline import Pipeline
from berth.v1 import generation_pb2 as v1

_OLD_NAMES = {"request_output_len": "max_new_tokens"}


class ResponseType(enum.Enum):
    """How far an output is, or why there is none."""

    SUCCESS = enum.auto()
    FINISH = enum.auto()
    SESSION_REPEAT = enum.auto()
    SESSION_NOT_EXIST = enum.auto()
    INPUT_LENGTH_ERROR = enum.auto()
    CANCEL = enum.auto()


class TokenIds(list[int]):
    """A list that also answers to the array calls of the tutorials."""

    def tolist(self) -> list[int]:
        return list(self)


@dataclass(frozen=True)
class Output:
    """All that was generated so far: `status, ids, n = output`, and as LMDeploy 0.1 had it `ids, n = output[0]`."""

    status: ResponseType
    token_ids: TokenIds
    num_token: int

    def __iter__(self) -> Iterator[Any]:
        return iter((self.status, self.token_ids, self.num_token))

    def __getitem__(self, index: int) -> tuple[TokenIds, int]:
        return [(self.token_ids, self.num_token)][index]


class Tokenizer:
    """The server's. Thread: any."""

    def __init__(self, pipe: Pipeline) -> None:
        self._pipe = pipe

    def encode(self, text: str, add_bos: bool = True) -> list[int]:
        """add_bos=False: without the token that begins a sequence, where the model has one."""
        if not text:
            return []
        ids = self._tokenize(v1.Prompt(text=text))
        if not add_bos and len(ids) > 1 and not text.startswith(self.decode(ids[:1], skip_special_tokens=False)):
            del ids[0]
        return ids

    def decode(self, token_ids: Sequence[int], offset: int | None = None, skip_special_tokens: bool = True) -> str:
        """The text of the ids, those before `offset` left out."""
        client = self._pipe.client
        return self._pipe.run(
            client.detokenize(list(token_ids)[offset or 0 :], skip_special_tokens=skip_special_tokens)
        )

    def _tokenize(self, prompt: v1.Prompt) -> list[int]:
        return self._pipe.run(self._pipe.client.tokenize(prompt))


class ChatModel:
    """The model's chat template."""

    def __init__(self, tokenizer: Tokenizer, eos_token_id: int) -> None:
        self._tokenizer = tokenizer
        self._eos = tokenizer.decode([eos_token_id], skip_special_tokens=False)

    def get_prompt(self, prompt: str, sequence_start: bool = True) -> str:
        """`prompt` as a user's message, ready for the answer. sequence_start=False: as what follows an answer that
        ended."""
        if sequence_start:
            return self.messages2prompt([{"role": "user", "content": prompt}])
        answer = f"answer-{uuid.uuid4().hex}"
        rendered = self.messages2prompt(
            [
                {"role": "user", "content": "question"},
                {"role": "assistant", "content": answer},
                {"role": "user", "content": prompt},
            ]
        )
        return rendered.partition(answer)[2].removeprefix(self._eos)  # the history has the token that ended the answer

    def messages2prompt(self, messages: Sequence[dict[str, str]]) -> str:
        """A conversation, ready for the answer. encode() adds the token that begins a sequence."""
        chat = v1.ChatPrompt(messages=[v1.ChatMessage(role=m["role"], content=m["content"]) for m in messages])
        ids = self._tokenizer._tokenize(v1.Prompt(chat=chat))
        text = self._tokenizer.decode(ids, skip_special_tokens=False)
        if self._tokenizer.encode(text)[:2] == [ids[0], ids[0]]:
            text = text.removeprefix(self._tokenizer.decode(ids[:1], skip_special_tokens=False))
        return text


class TurboMind:
    """A model, on this machine or behind a gateway. Closing it, or the end of the program, ends its cluster."""

    def __init__(self, model_path: str, engine_config: EngineConfig | None = None, **connection: Any) -> None:
        self.pipe = Pipeline(model_path, engine_config, **connection)
        self.tokenizer = Tokenizer(self.pipe)
        served = self.pipe.run(self.pipe.client.models())[0]
        self.model_name = served.name
        self.session_len = served.context_length
        self.eos_id = served.eos_token_ids[0]
        self.model = ChatModel(self.tokenizer, self.eos_id)
        self._instances = f"tm-{uuid.uuid4().hex[:8]}"

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str,
        model_name: str | None = None,
        model_format: str | None = None,
        group_size: int | None = None,
        tp: int | None = None,
        engine_config: EngineConfig | None = None,
        **connection: Any,
    ) -> TurboMind:
        """A model path or a gateway's address. UnsupportedError for tensor parallelism and quantised weights."""
        if group_size:
            raise errors.unsupported(f"group_size={group_size} (4-bit weights)", "pass a GGUF file")
        given: dict[str, Any] = {"model_name": model_name, "model_format": model_format, "tp": tp}
        config = replace(engine_config or EngineConfig(), **{k: v for k, v in given.items() if v is not None})
        config.check()
        return cls(os.fspath(pretrained_model_name_or_path), config, **connection)

    def create_instance(self, cuda_stream_id: int = 0) -> TurboMindInstance:
        """Sessions are the model's, whichever instance they are used through."""
        return TurboMindInstance(self, self._instances)

    def close(self) -> None:
        self.pipe.close()


class TurboMindInstance:
    """Generates. Thread: any, several at once."""

    def __init__(self, tm_model: TurboMind, prefix: str) -> None:
        self.tm_model = tm_model
        self._pipe = tm_model.pipe
        self._prefix = prefix

    def stream_infer(
        self,
        session_id: int,
        input_ids: Sequence[int] | Sequence[Sequence[int]],
        *,
        sequence_start: bool = True,
        sequence_end: bool = False,
        step: int = 0,
        stop: bool = False,
        gen_config: GenerationConfig | None = None,
        stream_output: bool = False,
        **kwargs: Any,
    ) -> Iterator[Output]:
        """One turn of session `session_id`.

        sequence_start opens the session, in place of one that is open; else step is how many tokens of its history
        stay. sequence_end closes it after the turn. stop ends the running turn instead of beginning one. stream_output:
        an output per step, else the last alone. Other keywords are GenerationConfig's, and request_output_len. A
        session that is busy or does not exist and an input that is too long are an output with that status; other
        errors are raised.
        """
        outputs = self._outputs(
            session_id,
            input_ids,
            sequence_start,
            sequence_end,
            step,
            stop,
            gen_config,
            stream_output,
            **kwargs,
        )
        return self._pipe.iterate(outputs)

    def async_stream_infer(
        self, session_id: int, input_ids: Sequence[int] | Sequence[Sequence[int]], **options: Any
    ) -> AsyncGenerator[Output, None]:
        """stream_infer for asyncio, in any event loop. Cancelling it ends the turn."""
        return self._pipe.follow(self._outputs(session_id, input_ids, **options))

    def end(self, session_id: int) -> None:
        """Closes the session."""
        self._pipe.run(self._pipe.client.close_session(self._name(session_id)))

    def cancel(self, session_id: int) -> None:
        """Ends the session's running turn; what was generated stays in its history."""
        self._pipe.run(self._pipe.client.cancel(session_id=self._name(session_id)))

    async def async_end(self, session_id: int) -> None:
        await asyncio.to_thread(self.end, session_id)

    async def async_cancel(self, session_id: int) -> None:
        await asyncio.to_thread(self.cancel, session_id)

    def _name(self, session_id: int) -> str:
        return f"{self._prefix}-{session_id}"

    async def _outputs(
        self,
        session_id: int,
        input_ids: Sequence[int] | Sequence[Sequence[int]],
        sequence_start: bool = True,
        sequence_end: bool = False,
        step: int = 0,
        stop: bool = False,
        gen_config: GenerationConfig | None = None,
        stream_output: bool = False,
        **kwargs: Any,
    ) -> AsyncGenerator[Output, None]:
        if stop:
            await self._pipe.client.cancel(session_id=self._name(session_id))
            yield Output(ResponseType.CANCEL, TokenIds(), 0)
            return
        given = {_OLD_NAMES.get(key, key): value for key, value in take(TurnOptions, kwargs).items()}
        config = replace(gen_config or GenerationConfig(), **given)
        spec = new_spec(v1.Prompt(token_ids=v1.TokenIds(ids=_flat(input_ids))), config, "")
        spec.session_id = self._name(session_id)
        spec.session.mode = v1.SESSION_MODE_INTERACTIVE
        spec.session.start = spec.session.replace = sequence_start
        spec.session.end = sequence_end
        if not sequence_start:
            spec.session.position = step
        ids = TokenIds()
        reader = StreamReader(0, session_id)
        try:
            async with contextlib.aclosing(self._pipe.client.stream(spec)) as messages:
                async for message in messages:
                    for piece in reader.read(message):
                        ids.extend(piece.token_ids)
                        if piece.finish_reason is not None:
                            status = ResponseType.CANCEL if piece.finish_reason == "abort" else ResponseType.FINISH
                            yield Output(status, ids, len(ids))
                        elif stream_output:
                            yield Output(ResponseType.SUCCESS, TokenIds(ids), len(ids))
        except errors.BerthError as error:
            refused = _status_of(error)
            if refused is None:
                raise
            yield Output(refused, TokenIds(), 0)


def _flat(input_ids: Sequence[int] | Sequence[Sequence[int]]) -> list[int]:
    """The ids of `ids`, or of the tutorials' `[ids]`."""
    if len(input_ids) == 1 and isinstance(input_ids[0], Sequence):
        return list(input_ids[0])
    if any(isinstance(item, Sequence) for item in input_ids):
        raise errors.invalid("input_ids", f"has {len(input_ids)} sequences: one turn has one")
    return [item for item in input_ids if isinstance(item, int)]


def _status_of(error: errors.BerthError) -> ResponseType | None:
    if error.reason == "SESSION_NOT_FOUND":
        return ResponseType.SESSION_NOT_EXIST
    if error.reason == "SESSION_BUSY":
        return ResponseType.SESSION_REPEAT
    if error.reason == "CONTEXT_LENGTH_EXCEEDED":
        return ResponseType.INPUT_LENGTH_ERROR
    return None
