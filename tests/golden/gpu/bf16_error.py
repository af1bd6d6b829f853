#!/usr/bin/env python3
"""What 16 bits alone do to a Llama's logits: Hugging Face in bf16 and in f16, and an fp32 forward pass whose values are rounded at chosen
places, against Hugging Face in fp32, teacher-forced.

usage: bf16_error.py MODEL.gguf TOKENS

TOKENS is a file of token ids, as for check_cpu.py, with whose figures these compare. On a GPU where there is one, else on the CPU. Needs
torch, transformers, accelerate, gguf.
"""
import copy
import os
import sys

import torch
import transformers

from check_hf import keep_buffers

# Where an engine in 16 bits rounds: weights; norms; products of q, k, v before the rotation and q, k, v behind it; weights of attention and
# its result; gate and up, their activation; the residual stream.
ALL = {"weights", "norms", "products", "qkv", "softmax", "attended", "gate and up", "activation", "residual"}


class Forward:
    """A Llama's forward pass in fp32 with roundings."""

    def __init__(self, model, tokens, dtype):
        self.config, self.weights, self.tokens, self.dtype = model.config, model.state_dict(), tokens, dtype
        config = model.config
        self.dim = config.hidden_size // config.num_attention_heads
        theta = config.rope_parameters["rope_theta"]
        angle = torch.arange(len(tokens)).float()[:, None] / theta ** (torch.arange(0, self.dim, 2).float() / self.dim)
        self.cos, self.sin = angle.cos().to(tokens.device)[:, None], angle.sin().to(tokens.device)[:, None]

    def run(self, places):
        def rounded(place, x):
            return x.to(self.dtype).float() if place in places else x

        def product(x, name):
            return x @ rounded("weights", self.weights[name + ".weight"]).T

        def norm(x, name):
            scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.config.rms_norm_eps)
            return rounded("norms", x * scale * self.weights[name + ".weight"])

        def rotated(x):
            a, b = x.chunk(2, -1)
            return torch.cat([a * self.cos - b * self.sin, b * self.cos + a * self.sin], -1)

        x = rounded("residual", rounded("weights", self.weights["model.embed_tokens.weight"])[self.tokens])
        for layer in range(self.config.num_hidden_layers):
            name = f"model.layers.{layer}."
            normed = norm(x, name + "input_layernorm")
            q, k, v = (rounded("products", product(normed, f"{name}self_attn.{part}_proj")).unflatten(-1, (-1, self.dim))
                       for part in "qkv")
            q, k, v = rounded("qkv", rotated(q)), rounded("qkv", rotated(k)), rounded("qkv", v)
            attended = rounded("attended", self.attend(q, k, v, rounded).flatten(1))
            x = rounded("residual", x + product(attended, name + "self_attn.o_proj"))
            normed = norm(x, name + "post_attention_layernorm")
            gate, up = (rounded("gate and up", product(normed, f"{name}mlp.{part}_proj")) for part in ("gate", "up"))
            active = rounded("activation", torch.nn.functional.silu(gate) * up)
            x = rounded("residual", x + product(active, name + "mlp.down_proj"))
        head = "lm_head" if "lm_head.weight" in self.weights else "model.embed_tokens"
        return product(norm(x, "model.norm"), head)

    def attend(self, q, k, v, rounded):
        group = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        score = torch.einsum("qhd,khd->hqk", q, k) / self.dim**0.5
        score += torch.full_like(score[0], float("-inf")).triu(1)
        weight = (score - score.amax(-1, keepdim=True)).exp()
        return torch.einsum("hqk,khd->qhd", rounded("softmax", weight), v) / weight.sum(-1).T[..., None]


def compare(name, reference, other):
    rows, best, chosen = torch.arange(len(reference), device=reference.device), reference.argmax(1), other.argmax(1)
    gaps = (reference[rows, best] - reference[rows, chosen])[chosen != best]
    largest = gaps.max().item() if len(gaps) else 0.0
    print(f"{name}: {len(gaps)} of {len(rows)} positions differ ({100 * len(gaps) / len(rows):.2f} %), by at most {largest:.4f}, "
          f"{(gaps >= 0.1).sum()} by 0.1 or more; logits differ by {(other - reference).abs().mean():.4f} on average", flush=True)


@torch.inference_mode()
def main(path, tokens_path):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with open(tokens_path, encoding="utf-8") as file:
        tokens = torch.tensor([int(token) for token in file.read().split()], device=device)
    folder, name = os.path.split(os.path.abspath(path))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval().to(device)
    reference = model(tokens[None]).logits[0]
    for dtype in (torch.bfloat16, torch.float16):
        narrow = keep_buffers(copy.deepcopy(model), dtype)
        compare(f"Hugging Face, {dtype}", reference, narrow(tokens[None]).logits[0].float())
        forward = Forward(model, tokens, dtype)
        compare("no rounding", reference, forward.run(set()))
        compare("all roundings", reference, forward.run(ALL))
        for place in sorted(ALL):
            compare(f"all but {place}", reference, forward.run(ALL - {place}))
            compare(f"{place} alone", reference, forward.run({place}))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
