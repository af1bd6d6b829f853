#!/usr/bin/env python3
"""Makes greedy.json: what Hugging Face transformers generates greedily from the demo model.

usage: make.py SmolLM2-135M-Instruct.Q4_1.gguf > greedy.json
needs: torch, transformers, accelerate, gguf

The GGUF's weights are dequantised and run in fp32. Every prompt gets 64 tokens, end-of-text included and passed over. `gap` is
the difference of the two largest logits at each token: where it is tiny, another order of summation may rightly choose the other.
"""
import json
import os
import sys

import torch
import transformers

TOKENS = 64

LONG = (
    "Berth is a harbour town of some nine thousand people. Its oldest quay was built in 1642, when the salt trade needed deeper "
    "water than the river mouth could give. For two centuries ships brought salt, timber and wool, and left with fish, glass and "
    "bricks. The first lighthouse was a coal fire on a tower of oak; it burned down twice and was rebuilt in stone in 1791. A "
    "railway came in 1868, and with it came the first summer guests, who wanted clean air, long walks and a good table. Hotels "
    "rose along the promenade, and the fishermen's wives learned to cook for strangers.\n\n"
    "The harbour froze in the winter of 1929, so hard that carts drove out to the islands. Old people still speak of that year. "
    "After the war the ferries grew, the quays grew with them, and the salt sheds became workshops. Today the town lives on a "
    "container terminal, two shipyards, a school for pilots and, from June to September, on visitors. The terminal has six "
    "berths and fourteen cranes. Every ship that calls gets a pilot, a berth and a time slot; if a crane fails, the harbour "
    "office moves the ship to another berth, and its cargo goes on from the container where it stopped. Nobody on board needs to "
    "do anything. The office is proud of that rule, which it has kept for thirty-one years without an exception.\n\n"
    "In the evening the lights of the terminal can be seen from the old lighthouse, which is now a museum. It shows charts, "
    "instruments, models of ships and a log book from 1803, in which a keeper noted the weather three times a day for twenty "
    "years. The last entry reads: fog, no wind, no ships, all well.\n\n"
    "Question: What happens when a crane fails?\nAnswer:"
)

PROMPTS = [
    ("chat_capital", [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]),
    ("chat_two_turns", [
        {"role": "system", "content": "You are a terse assistant who loves the sea."},
        {"role": "user", "content": "Name three kinds of boats."},
        {"role": "assistant", "content": "Sloop, ketch and schooner."},
        {"role": "user", "content": "Which of them has the most masts, and why does that matter?"},
    ]),
    ("chat_german", [{"role": "user", "content": "Erkläre mir in zwei Sätzen, was ein Hafen ist."}]),
    ("raw_english", "Once upon a time, in a village by the sea, there lived an old clockmaker who"),
    ("raw_french", "Le petit chat noir est assis sur la fenêtre et regarde"),
    ("raw_chinese_emoji", "你好，世界！🚢 今天的天气"),
    ("raw_code", "def fibonacci(n):\n    \"\"\"Returns the n-th Fibonacci number.\"\"\"\n"),
    ("raw_long", LONG),
]


def main():
    path = os.path.abspath(sys.argv[1])
    folder, name = os.path.split(path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
    cases = []
    for case, prompt in PROMPTS:
        text = prompt if isinstance(prompt, str) else tokenizer.apply_chat_template(
            prompt, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        tokens, gaps = [], []
        cache, step = None, torch.tensor([ids])
        with torch.no_grad():
            for _ in range(TOKENS):
                out = model(step, past_key_values=cache, use_cache=True)
                cache = out.past_key_values
                top = torch.topk(out.logits[0, -1], 2)
                tokens.append(int(top.indices[0]))
                gaps.append(round(float(top.values[0] - top.values[1]), 5))
                step = torch.tensor([[tokens[-1]]])
        cases.append({"name": case, "text": text, "prompt": ids, "tokens": tokens, "gaps": gaps,
                      "continuation": tokenizer.decode(tokens)})
        print(f"{case}: {len(ids)} prompt tokens, smallest gap {min(gaps)}: {cases[-1]['continuation'][:60]!r}", file=sys.stderr)
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    print(f'{{"model": "{name}", "transformers": "{transformers.__version__}", "torch": "{torch.__version__}", "cases": [\n{lines}\n]}}')


if __name__ == "__main__":
    main()
