"""Writes masks.json: for some grammars and texts, what PyPI xgrammar (0.2) allows before each token of the text.

usage: make_masks.py        needs tokenizers and xgrammar; reads qwen2.json beside it

A case has the kind and source of a grammar, the ids of a text that matches it, and per position (one more than ids) the hash of the
allowed ids in rising order and whether the end is allowed. Special tokens are left out.
"""
import json
import os

import tokenizers
import torch
import xgrammar

HERE = os.path.dirname(os.path.abspath(__file__))
PERSON = {"type": "object", "additionalProperties": False, "required": ["name", "age", "tags"],
          "properties": {"name": {"type": "string"}, "age": {"type": "integer"},
                         "tags": {"type": "array", "items": {"enum": ["red", "green", 7]}},
                         "home": {"anyOf": [{"type": "null"}, {"type": "boolean"}, {"type": "number"}]}}}
TREE = {"$ref": "#/$defs/node", "$defs": {"node": {
    "type": "object", "additionalProperties": False, "required": ["value", "children"],
    "properties": {"value": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}}}}
ARITHMETIC = 'root ::= term ("+" term | "-" term)*\nterm ::= [0-9]+ | "(" root ")"\n'
CASES = [
    ("json_schema", json.dumps(PERSON), '{"name": "Ada \\"L\\" Löwe\\n", "age": -36, "tags": ["red", 7, "green"], "home": 1.5e3}'),
    ("json_schema", json.dumps(PERSON), '{ "name":"x","age":0 ,\n"tags":[]}'),
    ("json_schema", json.dumps(TREE), '{"value": "root", "children": [{"value": "日本", "children": []}, {"value": "", "children": []}]}'),
    ("regex", r"[a-z]+(\.[a-z0-9]+)*@[a-z]{2,8}\.(com|org)", "first.last2@example.org"),
    ("regex", r"(\d{3}-)?\d{4}( ext [0-9]{1,3})?", "555-0123 ext 42"),
    ("regex", r"[α-ω ]+!", "καλημερα κοσμε!"),
    ("ebnf", ARITHMETIC, "12+(345-(6+7))-89"),
]


def fnv1a(data):
    """As GoldenHash of tests/worker/text/golden.h."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"[:8]


def main():
    path = os.path.join(HERE, "qwen2.json")
    tokenizer = tokenizers.Tokenizer.from_file(path)
    vocabulary = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    end = min(special)
    info = xgrammar.TokenizerInfo(vocabulary, xgrammar.VocabType.BYTE_LEVEL, vocab_size=len(vocabulary), stop_token_ids=[end])
    compiler = xgrammar.GrammarCompiler(info)
    compile_kind = {"json_schema": lambda s: compiler.compile_json_schema(s, any_whitespace=True, max_whitespace_cnt=16),
                    "regex": compiler.compile_regex, "ebnf": compiler.compile_grammar}
    cases = []
    for kind, source, text in CASES:
        matcher = xgrammar.GrammarMatcher(compile_kind[kind](source))
        bitmask = xgrammar.allocate_token_bitmask(1, len(vocabulary))
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        steps = []
        for token in ids + [None]:
            bitmask.fill_(-1)
            matcher.fill_next_token_bitmask(bitmask)
            words = bitmask[0].tolist()
            allowed = [i for i in range(len(vocabulary)) if words[i // 32] >> (i % 32) & 1]
            plain = [i for i in allowed if i not in special]
            steps.append([fnv1a(b"".join(i.to_bytes(4, "little") for i in plain)), end in allowed])
            if token is not None:
                assert matcher.accept_token(token), (source, text, vocabulary[token])
        cases.append({"kind": kind, "source": source, "ids": ids, "steps": steps})
    with open(os.path.join(HERE, "masks.json"), "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main()
