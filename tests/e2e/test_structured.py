"""Structured output: whatever the model would say, the answer matches the schema, the pattern or the grammar."""
import json
import re

import jsonschema
import openai
import pytest

PERSON = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "age", "height", "shoes", "likes", "pet"],
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z][a-z]{2,8}$"},
        "age": {"type": "integer", "minimum": 18, "maximum": 99},
        "height": {"type": "number", "minimum": 1.25, "exclusiveMaximum": 2.5},
        "shoes": {"type": "number", "multipleOf": 0.5, "minimum": 36, "maximum": 47.5},
        "likes": {"type": "array", "items": {"enum": ["tea", "chess", "rain"]}, "minItems": 1, "maxItems": 3},
        "pet": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/pet"}]},
    },
    "$defs": {
        "pet": {
            "type": "object",
            "additionalProperties": False,
            "required": ["kind", "born"],
            "properties": {"kind": {"const": "cat"}, "born": {"type": "string", "format": "date"}},
        }
    },
}
DATE_PAIR = {
    "type": "array",
    "items": {"type": "object", "properties": {"z": {"type": "boolean"}, "a": {"type": "integer", "minimum": 0, "maximum": 9}},
              "required": ["z", "a"], "additionalProperties": False},
    "minItems": 2,
    "maxItems": 2,
}  # fmt: skip


def schema_format(schema):
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def ask(client, model, response_format, **more):
    messages = [{"role": "user", "content": "Answer in JSON, please."}]
    return client.chat.completions.create(
        model=model, messages=messages, max_tokens=500, extra_body={"response_format": response_format}, **more
    )


@pytest.mark.parametrize("schema", [PERSON, DATE_PAIR], ids=["person", "pair"])
def test_an_answer_matches_its_schema(client, model, schema):
    answer = ask(client, model, schema_format(schema), n=2, temperature=1, seed=3)
    for choice in answer.choices:
        assert choice.finish_reason == "stop", choice
        jsonschema.validate(json.loads(choice.message.content), schema)


def test_members_keep_the_order_of_the_schema(client, model):
    answer = json.loads(ask(client, model, schema_format(DATE_PAIR)).choices[0].message.content)
    assert [list(item) for item in answer] == [["z", "a"]] * 2


def test_a_stream_is_the_same_answer(client, model):
    whole = ask(client, model, schema_format(PERSON), seed=5).choices[0].message.content
    stream = ask(client, model, schema_format(PERSON), seed=5, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices) == whole


def test_a_pattern_and_a_grammar(client, model):
    pattern = r"(yes|no)(, because [a-z]{3,6}){1,2}\."
    text = ask(client, model, {"type": "regex", "regex": pattern}).choices[0].message.content
    assert re.fullmatch(pattern, text), text
    grammar = 'root ::= "<" [a-c]{2,4} ">" ("!" | "?")'
    text = ask(client, model, {"type": "ebnf", "ebnf": grammar}).choices[0].message.content
    assert re.fullmatch(r"<[a-c]{2,4}>[!?]", text), text


@pytest.mark.parametrize(
    "response_format, message",
    [
        (schema_format({"type": "array", "uniqueItems": True}), "#/uniqueItems: is not supported"),
        (schema_format({"type": "number", "multipleOf": 0.12345}), "#/multipleOf: 0.12345 is not supported"),
        (schema_format({"type": "wrong"}), 'unknown type "wrong"'),
        ({"type": "regex", "regex": "(a"}, "without its ')'"),
        ({"type": "ebnf", "ebnf": "root ::= other"}, '"other" is not defined'),
        ({"type": "regex"}, "regex"),
    ],
)
def test_what_cannot_be_read_is_named(sim_client, response_format, message):
    with pytest.raises(openai.BadRequestError, match=re.escape(message)):
        ask(sim_client, "sim", response_format)
