"""Fields of bodies with values that are no good: each is one error of the field and the value. What a field leads to further in
is in the tests of its room."""
import json

import pytest

MESSAGES = [{"role": "user", "content": "x"}]
TOOL = {"type": "function", "function": {"name": "f"}}
GOOD_BODIES = {
    "/v1/chat/completions": {"model": "sim", "messages": MESSAGES, "max_tokens": 1},
    "/v1/completions": {"model": "sim", "prompt": "x", "max_tokens": 1},
    "/v1/responses": {"model": "sim", "input": MESSAGES, "max_output_tokens": 1},
    "/v1/messages": {"model": "sim", "messages": MESSAGES, "max_tokens": 1},
    "/v1/messages/count_tokens": {"model": "sim", "messages": MESSAGES},
    "/v1/chat/interactive": {"prompt": "x", "request_output_len": 1},
    "/v1/sessions/fork": {"session_id": "s"},
    "/generate": {"prompt": "x", "max_tokens": 1},
    "/v1/encode": {"input": "x"},
    "/v1/tokenize": {"messages": MESSAGES},
    "/v1/detokenize": {"tokens": [5]},
    "/v1/embeddings": {"model": "sim", "input": "x"},
}

FLAG = ["x", 1, []]
TEXT = [3, True, ["x"], {}]
LIMIT = [0, -1, 1.5, "x", 2**40, [1]]
MODEL = [3, [], {}]
SESSION = [1.5, [], -2, 2**63, "x" * 300]
STOP = [3, [3], [""], ["x"] * 17, "x" * 5000]
SAMPLING = {
    "temperature": [-0.1, 2.1, "x", [1], 1e39], "top_p": [0, 1.1, "x"], "top_k": [-2, 1.5, "x", 2**31], "min_p": [-0.1, 1.1, "x"],
    "presence_penalty": [-2.1, 2.1, "x"], "frequency_penalty": [-2.1, 2.1, "x"], "repetition_penalty": [0, -1, "x"],
    "seed": ["x", 1.5, 2**63], "logit_bias": [3, {"x": 1}, {"1": 101}, {"1": "x"}, {"99999": 1}],
    "guided_json": [{}], "guided_regex": ["x"], "guided_choice": [["x"]], "guided_grammar": ["x"], "structured_outputs": [{}],
}  # fmt: skip
ENDS = {
    "min_tokens": [-1, 99, "x"], "min_new_tokens": [-1, 99, "x"], "stop_token_ids": ["x", [-1], [10**9], [1.5], [2**40]],
    "bad_words": [3, [3], [""], ["x"] * 129], "ignore_eos": FLAG, "include_stop_str_in_output": FLAG,
}  # fmt: skip
OUTPUT = {"skip_special_tokens": FLAG, "priority": [101, -101, 1.5, "x"], "stream": FLAG, "session_id": SESSION, "stop": STOP}
PASSED_OVER = {
    "user": TEXT, "service_tier": TEXT, "safety_identifier": TEXT, "prompt_cache_key": TEXT, "prompt_cache_retention": TEXT,
    "metadata": [3, "x", []], "store": FLAG,
}  # fmt: skip
SEVERAL = {"n": [0, 129, "x", 1.5]}
ONE = {"n": [0, 2, "x", 1.5]}
COMPLETION = {
    **SAMPLING, **ENDS, **OUTPUT, **PASSED_OVER, **SEVERAL, "model": [None, *MODEL], "max_tokens": LIMIT, "max_completion_tokens": [*LIMIT, 2],
    "response_format": [3, "json_object", {}, {"type": 3}, {"type": "yaml"}, {"type": "json_schema"}, {"type": "regex"}, {"type": "regex", "regex": "("}],
    "stream_options": [3, {}, {"include_usage": True}, {"include_usage": 1}],
}  # fmt: skip
TEMPLATE = {"chat_template_kwargs": [3, "x", []], "reasoning_effort": TEXT, "add_generation_prompt": FLAG}
CHAT_MESSAGES = [
    None, [], "hi", {}, [1], [{}], [{"role": 1, "content": "x"}], [{"role": "user", "content": 3}], [{"role": "user", "content": [3]}],
    [{"role": "user", "content": [{"type": "x"}]}], [{"role": "user", "content": [{"type": "text", "text": 3}]}],
    [{"role": "assistant", "tool_calls": 3}], [{"role": "assistant", "tool_calls": [{"function": 3}]}],
]  # fmt: skip
CHAT_TOOLS = {
    "tools": [3, "x", [3], [{}], [{"type": "x"}], [{"type": "function", "function": {}}], [{"type": "function", "function": {"name": "a b"}}],
              [{"type": "function", "function": {"name": "x" * 65}}], [{"type": "function", "function": {"name": "f", "parameters": 3}}], [TOOL] * 129],
    "tool_choice": [3, "always", {}, {"type": "x"}, {"type": "function"}, "required", {"type": "function", "function": {"name": "g"}}],
    "parallel_tool_calls": FLAG,
}  # fmt: skip
ANTHROPIC = {
    "model": [None, *MODEL], "system": [3, {}, [3], [{"type": "image"}]], "parallel_tool_calls": FLAG, "thinking": [3, "enabled", {}, {"type": "x"}],
    "messages": [None, [], "hi", [3], [{"role": "system", "content": "x"}], [{"role": "user"}], [{"role": "user", "content": 3}],
                 [{"role": "user", "content": [3]}], [{"role": "user", "content": [{"type": "x"}]}]],
    "tools": [3, [3], [{}], [{"name": ""}], [{"name": "a b"}], [{"name": "f", "input_schema": 3}], [{"type": "bash", "name": "f"}], [{"name": "f"}] * 129],
    "tool_choice": ["auto", 3, {}, {"type": "x"}, {"type": "tool"}, {"type": "any"}, {"type": "tool", "name": "g"}],
}  # fmt: skip
FIELDS = {
    "/v1/chat/completions": {
        **COMPLETION, **TEMPLATE, **CHAT_TOOLS, "messages": CHAT_MESSAGES, "logprobs": [3, "x"], "top_logprobs": [21, -1, 3, "x"],
        "modalities": [3, ["audio"], [3]], "prediction": [3, "x", []], "audio": [{}], "functions": [[{"name": "f"}]], "function_call": ["auto"],
        "web_search_options": [{}],
    },
    "/v1/completions": {
        **COMPLETION, "prompt": [None, [], [[]], ["x", 1], [99999], [-1], [1.5], 3, {}, [""], ["x"] * 200], "echo": FLAG, "suffix": [3, "x"],
        "best_of": [2, 0, "x"], "logprobs": [21, -1, "x", True],
    },
    "/v1/responses": {
        **SAMPLING, **PASSED_OVER, **ONE, "model": [None, *MODEL], "stream": FLAG, "session_id": SESSION, "max_output_tokens": LIMIT,
        "input": [None, [], 3, {}, [3], [{"type": "x"}], [{"content": "x"}], [{"role": "user", "content": [{"type": "input_image"}]}]],
        "instructions": TEXT, "parallel_tool_calls": FLAG, "background": [True, "x"], "truncation": ["auto", 3], "include": [3, ["x"]],
        "tools": [3, [3], [{}], [{"type": "function"}], [{"type": "web_search"}], [{"type": "function", "name": "f"}] * 129],
        "tool_choice": [3, "always", {}, {"type": "x"}, {"type": "function"}, "required", {"type": "function", "name": "g"}],
        "text": [3, {"format": 3}, {"format": {"type": "x"}}, {"format": {"type": "json_schema"}}, {"verbosity": 3}],
        "reasoning": [3, {"effort": 3}], "stream_options": [3, {}, {"include_obfuscation": 1}], "top_logprobs": [2],
        "previous_response_id": ["x"], "conversation": ["x"], "prompt": [{}], "max_tool_calls": [1], "context_management": [{}],
    },
    "/v1/messages": {
        **ANTHROPIC, **SAMPLING, **PASSED_OVER, **ONE, "max_tokens": [None, *LIMIT], "stop_sequences": STOP, "stream": FLAG,
        "session_id": SESSION, "mcp_servers": [[]], "container": ["x"],
    },
    "/v1/messages/count_tokens": ANTHROPIC,
    "/v1/chat/interactive": {
        **SAMPLING, **ENDS, **OUTPUT, **ONE, "model": MODEL, "prompt": [None, 3, {}, [], [3], [{}], [{"role": 1}]], "request_output_len": LIMIT,
        "interactive_mode": ["x", 1, True], "cancel": ["x", 1, True], "image_url": ["x"], "adapter_name": ["x"],
    },
    "/v1/sessions/fork": {"model": MODEL, "session_id": [None, "", *SESSION], "position": [1.5, "x", 2**63, -1]},
    "/generate": {
        **SAMPLING, **ENDS, **OUTPUT, **ONE, "model": MODEL, "prompt": [None, "", 3, ["x"]], "input_ids": [3, [], ["x"], [1], [1.5]],
        "max_tokens": LIMIT, "return_logprob": FLAG, "image_data": ["x"], "return_routed_experts": [True],
    },
    "/v1/encode": {
        "model": MODEL, "input": [None, "", 3, {}, [], [3], ["x", ""], ["x"] * 129], "do_preprocess": FLAG, "add_bos": [False, "x", 1],
    },
    "/v1/tokenize": {**CHAT_TOOLS, **TEMPLATE, "model": MODEL, "prompt": [3, "x"], "messages": CHAT_MESSAGES},
    "/v1/detokenize": {"model": MODEL, "tokens": [None, 3, "x", ["x"], [1.5], [-1], [10**9], [2**40]], "skip_special_tokens": FLAG},
    "/v1/embeddings": {
        **PASSED_OVER, "model": [None, *MODEL], "input": [None, 3, {}, [], "", [""], [1.5], [[]], [-1], [99999], ["x", 1]],
        "encoding_format": [3, "x"], "dimensions": [3],
    },
}  # fmt: skip
# What an error may name instead of a field: another that it does not go with, or its other name.
OTHER_NAMES = {
    "input_ids": "prompt", "messages": "prompt", "interactive_mode": "session_id", "cancel": "session_id", "min_new_tokens": "min_tokens",
}  # fmt: skip
# Errors in which the value would say nothing more.
NO_VALUE = (
    "is required", "is not supported", "is empty", "one of the two", "an empty", "is allowed only when", "there are no tools", "needs a model with",
)  # fmt: skip


def shown(value):
    """How errors tell a value: what is long, or holds others, they do not."""
    return "" if value is None or isinstance(value, (list, dict)) or len(str(value)) > 20 else f"{value:g}" if isinstance(value, float) else json.dumps(value)


def request_bodies(cluster):
    """The fields of each endpoint's body, as /openapi.json has them."""
    connection = cluster.connect()
    connection.request("GET", "/openapi.json")
    paths = json.loads(connection.getresponse().read())["paths"]
    connection.close()
    schemas = {path: body["post"]["requestBody"]["content"]["application/json"]["schema"] for path, body in paths.items() if "post" in body}
    return {path: set(schema["properties"]) for path, schema in schemas.items()}


def test_every_field_of_every_body_is_here(sim):
    bodies = request_bodies(sim)
    assert set(FIELDS) == set(GOOD_BODIES) == set(bodies)
    for path, fields in bodies.items():
        assert fields - set(FIELDS[path]) == set(), path


@pytest.mark.parametrize("path, field", [(path, field) for path, fields in FIELDS.items() for field in fields])
def test_every_bad_field_is_named(sim, path, field):
    good = GOOD_BODIES[path]
    assert sim.post(path, good)[0] == 200
    bad = []
    for value in FIELDS[path][field]:
        status, _, answer = sim.post(path, {**good, field: value})
        message = answer["error"]["message"] if status != 200 else ""
        named = message.startswith((field, OTHER_NAMES.get(field, field)))
        if status != 400 or not named or not (shown(value) in message or any(text in message for text in NO_VALUE)):
            bad.append((value, status, message or answer))
    assert not bad


@pytest.mark.parametrize("path", GOOD_BODIES)
def test_fields_that_nobody_knows_are_told(sim, path):
    status, headers, _ = sim.post(path, {**GOOD_BODIES[path], "wonder": 1, "odd": {}})
    assert (status, headers["Warning"]) == (200, '299 berth "ignored fields: wonder, odd"')
    assert sim.post(path, GOOD_BODIES[path])[1]["Warning"] is None
