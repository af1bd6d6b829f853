"""Writes numbers.json: for some schemas of numbers, texts that PyPI jsonschema (4) finds valid or not when it computes in decimals.

usage: make_numbers.py        needs jsonschema
"""
import decimal
import json
import os
import random

import jsonschema

HERE = os.path.dirname(os.path.abspath(__file__))
DIVISORS = ["1", "2", "3", "7", "10", "60", "100", "250", "0.1", "0.01", "0.001", "0.5", "0.25", "0.125", "1.5", "0.03", "12.5"]
STEPS = ["0", "0.1", "0.001", "-0.001", "1", "-1", "0.0000001", "-0.0000001", "10", "-7"]


def number():
    most = 10 ** random.randint(1, 6)
    return decimal.Decimal(random.randint(-most, most)).scaleb(-random.choice([0, 0, 1, 2, 3, 5, 7]))


def schema():
    out = {key: number() for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum") if random.random() < 0.4}
    if random.random() < 0.5 or not out:
        out["multipleOf"] = decimal.Decimal(random.choice(DIVISORS))
    return out


def texts(limits):
    """Numbers at the limits and anywhere, with more zeros too."""
    near = [limit + decimal.Decimal(step) for limit in limits.values() for step in STEPS]
    multiples = [limits.get("multipleOf", 1) * random.randint(-(10**size), 10**size) for size in range(6)]
    for value in near + multiples + [number() for _ in range(6)]:
        text = format(abs(value) if value == 0 else value, "f")
        yield from (text, text + ("00" if "." in text else ".0"))


def main():
    random.seed(11)
    cases = []
    for i in range(80):
        limits, integer = schema(), i % 4 == 0
        validator = jsonschema.Draft202012Validator({"type": "integer" if integer else "number", **limits})
        source = ", ".join([f'"type": "{"integer" if integer else "number"}"'] + [f'"{k}": {v:f}' for k, v in limits.items()])
        case = {"schema": "{" + source + "}", "valid": [], "invalid": []}
        for text in sorted(set(texts(limits))):
            # An integer is written without a point here.
            valid = validator.is_valid(decimal.Decimal(text) if "." in text else int(text)) and not (integer and "." in text)
            case["valid" if valid else "invalid"].append(text)
        cases.append(case)
    with open(os.path.join(HERE, "numbers.json"), "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main()
