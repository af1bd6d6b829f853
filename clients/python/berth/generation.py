"""What is asked for and what comes back: prompts, GenerationConfig, Response."""

from __future__ import annotations

import collections
import contextlib
import json
import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, Union

from berth import errors
from berth.lmdeploy import GenerationOptions, only
from berth.v1 import generation_pb2 as v1
from berth.v1 import inference_pb2

Message: TypeAlias = Mapping[str, Any]
"""One message in OpenAI's form: {"role": "user", "content": "…"}."""
Prompt: TypeAlias = Union[str, Sequence[Message]]
"""A question, or the messages of a conversation."""

_BAN = -100.0  # the strongest logit bias
_FINISH_REASONS = {
    v1.FINISH_REASON_STOP_TOKEN: "stop",
    v1.FINISH_REASON_STOP_STRING: "stop",
    v1.FINISH_REASON_LENGTH: "length",
    v1.FINISH_REASON_CANCELLED: "abort",
    v1.FINISH_REASON_DEADLINE: "abort",
    v1.FINISH_REASON_TOOL_CALLS: "tool_calls",
}


@dataclass
class GenerationConfig(GenerationOptions):
    """How to generate, with LMDeploy's names.

    n: answers for each prompt; not in sessions. do_sample: False is greedy. None samples if any of temperature, top_p,
    top_k and min_p is given, else is greedy. Those that are None take the model's own defaults. max_new_tokens: None is
    what the context leaves. logprobs: alternatives per token. prompt_logprobs: of the
    prompt's tokens too, with `logprobs`; max_new_tokens may be 0 then. random_seed: drawn when None. response_format: {"type":
    "json_object"}, {"type": "json_schema", "json_schema": …} or {"type": "regex_schema", "regex_schema": …}.
    """

    n: int = 1
    max_new_tokens: int | None = 512
    do_sample: bool | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    temperature: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    ignore_eos: bool = False
    random_seed: int | None = None
    stop_words: Sequence[str] | None = None
    bad_words: Sequence[str] | None = None
    stop_token_ids: Sequence[int] | None = None
    bad_token_ids: Sequence[int] | None = None
    logit_bias: Mapping[int, float] | None = None
    min_new_tokens: int | None = None
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = only(True)
    include_stop_str_in_output: bool = False
    logprobs: int | None = None
    prompt_logprobs: bool = False
    response_format: Mapping[str, Any] | None = None

    def _greedy(self) -> bool:
        if self.do_sample is not None:
            return not self.do_sample
        return all(value is None for value in (self.temperature, self.top_p, self.top_k, self.min_p))

    def fill(self, spec: v1.GenerationSpec) -> None:
        """Sets sampling, stop, output and constraint of a request. InvalidRequestError for what no server needs to
        see."""
        self.check()
        self._fill_sampling(spec.sampling)
        self._fill_stop(spec.stop)
        spec.output.token_ids = True  # what a stream needs to go on after a loss
        spec.output.skip_special_tokens = self.skip_special_tokens
        _set(spec.output, "top_logprobs", self.logprobs, "logprobs")
        _set(spec.output, "prompt_logprobs", self.prompt_logprobs)
        if self.response_format is not None:
            _fill_constraint(spec.constraint, self.response_format)

    def _fill_sampling(self, sampling: v1.SamplingParams) -> None:
        _set(sampling, "choice_count", self.n, "n")
        _set(sampling, "seed", random.getrandbits(63) if self.random_seed is None else self.random_seed, "random_seed")
        for name in ("repetition_penalty", "presence_penalty", "frequency_penalty"):
            _set(sampling, name, getattr(self, name))
        if self._greedy():
            sampling.temperature = 0
        else:
            for name in ("temperature", "top_p", "top_k", "min_p"):
                _set(sampling, name, getattr(self, name))
        biases = {token: _BAN for token in self.bad_token_ids or ()} | dict(self.logit_bias or {})
        for token, bias in biases.items():
            with _naming("logit_bias", (token, bias)):
                sampling.logit_bias[token] = bias

    def _fill_stop(self, stop: v1.StopCriteria) -> None:
        _set(stop, "max_tokens", self.max_new_tokens, "max_new_tokens")
        _set(stop, "min_tokens", self.min_new_tokens, "min_new_tokens")
        _extend(stop.stop_strings, self.stop_words, "stop_words")
        _extend(stop.stop_token_ids, self.stop_token_ids, "stop_token_ids")
        _extend(stop.bad_words, self.bad_words, "bad_words")
        stop.ignore_eos = self.ignore_eos
        stop.include_stop_string = self.include_stop_str_in_output


@contextlib.contextmanager
def _naming(option: str, value: object) -> Iterator[None]:
    """Protobuf's complaints about a value do not say which option it was for."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise errors.invalid(option, f"is {value!r}: {error}") from None


def _set(message: Any, field_name: str, value: object, option: str = "") -> None:
    if value is not None:
        with _naming(option or field_name, value):
            setattr(message, field_name, value)


def _extend(repeated: Any, values: Sequence[Any] | None, option: str) -> None:
    if isinstance(values, str):
        raise errors.invalid(option, f"is {values!r}: want a list of strings")
    with _naming(option, values):
        repeated.extend(values or ())


def _fill_constraint(constraint: v1.Constraint, wanted: Mapping[str, Any]) -> None:
    kind = wanted.get("type")
    if kind == "json_object":
        constraint.json_object = True
    elif kind == "json_schema":
        schema = wanted.get("json_schema")
        schema = schema.get("schema", schema) if isinstance(schema, Mapping) else schema
        constraint.json_schema = json.dumps(schema)
    elif kind == "regex_schema":
        _set(constraint, "regex", wanted.get("regex_schema"), "response_format.regex_schema")
    elif kind != "text":
        raise errors.invalid(
            "response_format.type", f"is {kind!r}: want text, json_object, json_schema or regex_schema"
        )


@dataclass
class Response:
    """An answer, or in a stream the next piece of it.

    text, token_ids, logprobs: of a piece, what is new. generate_token_len: output tokens so far. finish_reason: None
    until the last piece, then "stop", "length", "abort" or "tool_calls". logprobs: per token, id to log-probability of
    the alternatives and of the token itself. prompt_logprobs: the same of the prompt's tokens, None for the first, in
    answers and pieces of choice 0. session_id: of the session, else the prompt's index. index: of the prompt
    in its list. choice: which of the prompt's `n` answers.
    """

    text: str
    generate_token_len: int
    input_token_len: int
    session_id: int | str = 0
    finish_reason: str | None = None
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[dict[int, float]] | None = None
    prompt_logprobs: list[dict[int, float] | None] | None = None
    index: int = 0
    cached_tokens: int = 0
    reasoning: str = ""
    choice: int = 0


def is_messages(value: object) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(item, Mapping) for item in value)


def split_prompts(prompts: object) -> tuple[list[Any], bool]:
    """The prompts of a call, and whether it was a single one."""
    if isinstance(prompts, str) or is_messages(prompts):
        return [prompts], True
    if isinstance(prompts, tuple):
        raise errors.unsupported("a prompt with images", "pass text or messages")
    if not isinstance(prompts, list):
        raise errors.invalid("prompts", f"is a {type(prompts).__name__}: want a string, messages or a list of these")
    return prompts, False


def make_prompt(prompt: object, do_preprocess: bool = True) -> v1.Prompt:
    """`do_preprocess=False`: a string is not put into the model's chat template."""
    if isinstance(prompt, str):
        if not do_preprocess:
            return v1.Prompt(text=prompt)
        return v1.Prompt(chat=v1.ChatPrompt(messages=[v1.ChatMessage(role="user", content=prompt)]))
    if isinstance(prompt, tuple) and not is_messages(prompt):
        raise errors.unsupported("a prompt with images", "pass text or messages")
    if not is_messages(prompt):
        raise errors.invalid("prompt", f"is a {type(prompt).__name__}: want a string or messages")
    if not do_preprocess:
        raise errors.invalid("do_preprocess", "is False, which is for strings: messages need the template")
    assert isinstance(prompt, Sequence)
    return v1.Prompt(chat=v1.ChatPrompt(messages=[_chat_message(message) for message in prompt]))


def _chat_message(message: Message) -> v1.ChatMessage:
    made = v1.ChatMessage(content=_content(message.get("content")))
    for name in ("role", "name", "tool_call_id"):
        _set(made, name, message.get(name), f"messages.{name}")
    for call in message.get("tool_calls") or ():
        function = call["function"]
        made.tool_calls.add(id=call.get("id", ""), name=function["name"], arguments=function["arguments"])
    return made


def _content(content: object) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise errors.invalid("messages.content", f"is a {type(content).__name__}: want a string or a list of parts")
    texts: list[str] = []
    for part in content:
        if part.get("type") != "text":
            raise errors.unsupported(f"a message part of type {part.get('type')!r}", "pass text")
        texts.append(str(part["text"]))
    return "".join(texts)


def new_spec(prompt: v1.Prompt, config: GenerationConfig, model: str) -> v1.GenerationSpec:
    spec = v1.GenerationSpec(request_id=f"py-{uuid.uuid4().hex}", model=model, prompt=prompt)
    config.fill(spec)
    return spec


def finish_reason(reason: v1.FinishReason) -> str:
    return _FINISH_REASONS.get(reason, "error")


def read_logprobs(token_ids: Sequence[int], logprobs: Sequence[v1.TokenLogprob]) -> list[dict[int, float]] | None:
    if not logprobs:
        return None
    rows = []
    for token, entry in zip(token_ids, logprobs):
        row = {alternative.token_id: alternative.logprob for alternative in entry.alternatives}
        row[token] = entry.logprob
        rows.append(row)
    return rows


def read_prompt_logprobs(logprobs: Sequence[v1.TokenLogprob], known: int = 0) -> list[dict[int, float] | None] | None:
    """`known`: how many of the prompt's tokens came before."""
    rows: list[dict[int, float] | None] = []
    rows += read_logprobs([entry.token_id for entry in logprobs], logprobs) or []
    if rows and known == 0:
        rows[0] = None
    return rows or None


def read_answers(answer: inference_pb2.GenerateResponse, index: int, session_id: int | str) -> list[Response]:
    """One for each choice."""
    return [
        Response(
            text=choice.text,
            generate_token_len=len(choice.token_ids),
            input_token_len=answer.usage.prompt_tokens,
            session_id=session_id,
            finish_reason=finish_reason(choice.finish_reason),
            token_ids=list(choice.token_ids),
            logprobs=read_logprobs(choice.token_ids, choice.logprobs),
            prompt_logprobs=read_prompt_logprobs(choice.prompt_logprobs),
            index=index,
            cached_tokens=answer.usage.cached_tokens,
            reasoning=choice.reasoning,
            choice=choice.index,
        )
        for choice in answer.choices
    ]


class StreamReader:
    """Turns the messages of one stream into pieces."""

    def __init__(self, index: int, session_id: int | str) -> None:
        self._index = index
        self._session_id = session_id
        self._started = v1.Started()
        self._generated: collections.Counter[int] = collections.Counter()
        self._prompt_logprobs = 0
        self.position = 0  # length of the session's history, once the stream has ended

    def read(self, message: inference_pb2.StreamGenerateResponse) -> list[Response]:
        """What the message has for the caller."""
        event = message.WhichOneof("event")
        if event == "started":
            self._started = message.started
        if event == "finished":
            self.position = message.finished.session_position
            ends = message.finished.choices
            return [self._piece(end.choice_index, finish_reason=finish_reason(end.reason)) for end in ends]
        if event != "delta":
            return []
        delta = message.delta
        self._generated[delta.choice_index] += len(delta.token_ids)
        piece = self._piece(
            delta.choice_index,
            text=delta.text,
            reasoning=delta.reasoning,
            token_ids=list(delta.token_ids),
            logprobs=read_logprobs(delta.token_ids, delta.logprobs),
            prompt_logprobs=read_prompt_logprobs(delta.prompt_logprobs, self._prompt_logprobs),
        )
        self._prompt_logprobs += len(delta.prompt_logprobs)
        return [piece]

    def _piece(self, choice: int, text: str = "", **more: Any) -> Response:
        return Response(
            text=text,
            generate_token_len=self._generated[choice],
            input_token_len=self._started.prompt_tokens,
            session_id=self._session_id,
            index=self._index,
            cached_tokens=self._started.cached_tokens,
            choice=choice,
            **more,
        )
