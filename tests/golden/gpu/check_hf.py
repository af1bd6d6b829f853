#!/usr/bin/env python3
"""Holds the engine on a GPU against Hugging Face on the same GPU: a Llama of some shape with random weights, teacher-forced.

usage: check_hf.py SCORE CONFIG_JSON FOLDER [--seeds N] [--tokens N]

SCORE is the program made of score.cc beside this file. FOLDER takes the checkpoint and the logits (memory, for speed). For each
way of computing the text prints the mean over positions of KL(HF in fp32 || way), and the same of HF in bf16; passes when no
way's mean over the seeds exceeds 1.1 times HF's. Needs torch and transformers.
"""
import argparse
import json
import os
import shutil
import struct
import subprocess
import sys

import numpy as np
import torch
import transformers

WAYS = ["whole", "chunks", "steps"]
BAR = 1.1


def randomize(model, seed):
    """Matrices of deviation 0.02 and norms around 1, values that bf16 holds."""
    generator = torch.Generator("cuda").manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, device="cuda")
        parameter.data.copy_((1 + 0.2 * noise if parameter.dim() == 1 else 0.02 * noise).bfloat16())


def write_checkpoint(model, config_path, folder):
    header, offset = {}, 0
    for name, parameter in model.named_parameters():
        size = 2 * parameter.numel()
        header[name] = {"dtype": "BF16", "shape": list(parameter.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    shutil.copy(config_path, os.path.join(folder, "config.json"))
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, parameter in model.named_parameters():
            parameter.data.bfloat16().view(torch.int16).cpu().numpy().tofile(file)


def keep_buffers(model, dtype):
    """The model as transformers loads it in 16 bits: the rotary frequencies stay fp32."""
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    torch.nn.Module.to(model, dtype)
    for name, buffer in kept.items():
        module, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(module), leaf, buffer)
    return model


@torch.inference_mode()
def log_probabilities(model, tokens):
    return torch.log_softmax(model(tokens[None]).logits[0].float(), -1)


def divergence(reference, other):
    """Mean over positions of KL(reference || other), both log-probabilities."""
    total = 0.0
    for a, b in zip(reference.split(256), other.split(256)):
        total += (a.double().exp() * (a.double() - b.double())).sum().item()
    return total / len(reference)


def run_seed(options, seed):
    shape = json.load(open(options.config, encoding="utf-8"))
    rope = {"rope_type": "default", "rope_theta": shape["rope_theta"]}
    config = transformers.LlamaConfig.from_dict({**shape, "rope_parameters": rope})
    with torch.device("cuda"):
        model = transformers.LlamaForCausalLM(config).float().eval()
    randomize(model, seed)
    write_checkpoint(model, options.config, options.folder)
    tokens = torch.randint(config.vocab_size, [options.tokens], generator=torch.Generator().manual_seed(seed))
    tokens_path, out = os.path.join(options.folder, "tokens"), os.path.join(options.folder, "logits")
    with open(tokens_path, "w", encoding="utf-8") as file:
        file.write(" ".join(map(str, tokens.tolist())))
    reference = log_probabilities(model, tokens.cuda())
    found = {"HF bf16": divergence(reference, log_probabilities(keep_buffers(model, torch.bfloat16), tokens.cuda()))}
    del model
    torch.cuda.empty_cache()
    subprocess.run([options.score, options.folder, tokens_path, out], check=True)
    for way in WAYS:
        logits = torch.from_numpy(np.fromfile(f"{out}.{way}", np.float32).reshape(options.tokens, -1)).cuda()
        found[way] = divergence(reference, torch.log_softmax(logits, -1))
        os.remove(f"{out}.{way}")
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("score")
    parser.add_argument("config")
    parser.add_argument("folder")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=2048)
    options = parser.parse_args()
    os.makedirs(options.folder, exist_ok=True)
    # Any tokenizer will do: the texts are ids.
    import make_checkpoint
    make_checkpoint.write_tokenizer(options.folder)
    runs = []
    for seed in range(1, options.seeds + 1):
        runs.append(run_seed(options, seed))
        print(f"seed {seed}: " + ", ".join(f"{name} {value:.3e}" for name, value in runs[-1].items()), flush=True)
    mean = {name: sum(run[name] for run in runs) / len(runs) for name in runs[0]}
    ratios = {way: mean[way] / mean["HF bf16"] for way in WAYS}
    print(f"{options.config}: HF bf16 {mean['HF bf16']:.3e}; of it " + ", ".join(f"{w} {r:.3f}" for w, r in ratios.items()))
    return 0 if all(ratio <= BAR for ratio in ratios.values()) else 1


if __name__ == "__main__":
    sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../bench"))
    sys.exit(main())
