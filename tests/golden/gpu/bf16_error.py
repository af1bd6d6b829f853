#!/usr/bin/env python3
"""What bf16 alone does to a GGUF's logits: Hugging Face in bf16 against Hugging Face in fp32, teacher-forced, on the CPU.

usage: bf16_error.py MODEL.gguf TOKENS

TOKENS is a file of token ids, as for check_cpu.py, with whose figures these compare. Needs torch, transformers, accelerate, gguf.
"""
import os
import sys

import torch
import transformers

from check_hf import as_bfloat16


def load(path):
    folder, name = os.path.split(os.path.abspath(path))
    return transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()


@torch.inference_mode()
def logits(model, tokens):
    return model(tokens[None]).logits[0].float()


def compare(name, reference, other):
    rows, best, chosen = torch.arange(len(reference)), reference.argmax(1), other.argmax(1)
    gaps = (reference[rows, best] - reference[rows, chosen])[chosen != best]
    largest = gaps.max().item() if len(gaps) else 0.0
    print(f"{name}: {len(gaps)} of {len(rows)} positions differ ({100 * len(gaps) / len(rows):.2f} %), by at most {largest:.4f}, "
          f"{(gaps >= 0.1).sum()} by 0.1 or more; logits differ by {(other - reference).abs().mean():.4f} on average", flush=True)


def main(path, tokens_path):
    with open(tokens_path, encoding="utf-8") as file:
        tokens = torch.tensor([int(token) for token in file.read().split()])
    model = load(path)
    reference = logits(model, tokens)
    for parameter in model.parameters():
        parameter.data.copy_(parameter.data.bfloat16())
    compare("weights in bf16", reference, logits(model, tokens))
    compare("all in bf16", reference, logits(as_bfloat16(model), tokens))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
