"""A conversation whose history the server keeps, as its caller sees it."""

from __future__ import annotations

from berth.generation import GenerationConfig, Prompt, Response, make_prompt, new_spec
from berth.v1 import generation_pb2 as v1


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
