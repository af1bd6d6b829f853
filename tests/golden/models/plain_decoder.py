"""Plain PyTorch decoders, written from the models' descriptions, for the families that transformers has no class of.

Each function takes (config, weight) and returns the shapes of the checkpoint's tensors and a function from tokens to logits.
"""

import math

import torch
from torch.nn import functional as F


def rms_norm(x, weight, epsilon):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + epsilon) * weight


def rotate(x, theta):
    """Su et al. 2021, dimension i with i + half; x [tokens, heads, head_dim]."""
    half = x.shape[-1] // 2
    angle = torch.arange(x.shape[0])[:, None] * theta ** (-torch.arange(half).float() / half)
    cosine, sine = angle.cos()[:, None], angle.sin()[:, None]
    return torch.cat([x[..., :half] * cosine - x[..., half:] * sine, x[..., half:] * cosine + x[..., :half] * sine], -1)


def alibi_slopes(heads):
    """Press et al. 2022: for other counts than powers of two, every second slope of twice as many is inserted."""
    power = 2 ** int(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    return torch.tensor(slopes + [2 ** (-4 * (2 * i + 1) / power) for i in range(heads - power)])


def attention(q, k, v, slopes=None):
    """q, k, v [tokens, heads, head_dim], causal."""
    tokens = q.shape[0]
    scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(q.shape[-1])
    distance = torch.arange(tokens)[None] - torch.arange(tokens)[:, None]
    if slopes is not None:
        scores = scores + slopes[:, None, None] * distance
    scores = scores.masked_fill(distance > 0, -math.inf)
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).reshape(tokens, -1)


def mlp(x, gate, up, down):
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)


def tensors(shapes, weight):
    return {name: weight(name, shape) for name, shape in shapes.items()}


def baichuan(config, weight):
    """W_pack is q, k, v. Without max_position_embeddings (13B): ALiBi. Class BaichuanForCausalLM (2): rows of the head normalised."""
    hidden, inter, vocab, heads = (config[k] for k in ("hidden_size", "intermediate_size", "vocab_size", "num_attention_heads"))
    epsilon = config["rms_norm_eps"]
    shapes = {"model.embed_tokens.weight": [vocab, hidden]}
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        shapes |= {
            layer + "self_attn.W_pack.weight": [3 * hidden, hidden], layer + "self_attn.o_proj.weight": [hidden, hidden],
            layer + "mlp.gate_proj.weight": [inter, hidden], layer + "mlp.up_proj.weight": [inter, hidden],
            layer + "mlp.down_proj.weight": [hidden, inter], layer + "input_layernorm.weight": [hidden],
            layer + "post_attention_layernorm.weight": [hidden]}
    shapes |= {"model.norm.weight": [hidden], "lm_head.weight": [vocab, hidden]}
    w = tensors(shapes, weight)
    alibi = "max_position_embeddings" not in config

    def logits(tokens):
        x = w["model.embed_tokens.weight"][torch.tensor(tokens)]
        for i in range(config["num_hidden_layers"]):
            layer = f"model.layers.{i}."
            normed = rms_norm(x, w[layer + "input_layernorm.weight"], epsilon)
            q, k, v = F.linear(normed, w[layer + "self_attn.W_pack.weight"]).view(len(tokens), 3, heads, -1).unbind(1)
            if not alibi:
                q, k = rotate(q, 10000.0), rotate(k, 10000.0)
            out = attention(q, k, v, alibi_slopes(heads) if alibi else None)
            x = x + F.linear(out, w[layer + "self_attn.o_proj.weight"])
            normed = rms_norm(x, w[layer + "post_attention_layernorm.weight"], epsilon)
            x = x + mlp(normed, *(w[layer + f"mlp.{p}_proj.weight"] for p in ("gate", "up", "down")))
        head = w["lm_head.weight"]
        if config["architectures"] == ["BaichuanForCausalLM"]:
            head = F.normalize(head)
        return F.linear(rms_norm(x, w["model.norm.weight"], epsilon), head)

    return shapes, logits


def qwen(config, weight):
    """c_attn is q, k, v with biases; act(w2 x) * w1 x; queries behind seq_length grow by log_{seq_length}(position + 1)."""
    hidden, inter, vocab, heads = (config[k] for k in ("hidden_size", "intermediate_size", "vocab_size", "num_attention_heads"))
    epsilon = config["layer_norm_epsilon"]
    shapes = {"transformer.wte.weight": [vocab, hidden]}
    for i in range(config["num_hidden_layers"]):
        layer = f"transformer.h.{i}."
        shapes |= {
            layer + "ln_1.weight": [hidden], layer + "attn.c_attn.weight": [3 * hidden, hidden],
            layer + "attn.c_attn.bias": [3 * hidden], layer + "attn.c_proj.weight": [hidden, hidden],
            layer + "ln_2.weight": [hidden], layer + "mlp.w1.weight": [inter // 2, hidden],
            layer + "mlp.w2.weight": [inter // 2, hidden], layer + "mlp.c_proj.weight": [hidden, inter // 2]}
    shapes |= {"transformer.ln_f.weight": [hidden], "lm_head.weight": [vocab, hidden]}
    w = tensors(shapes, weight)

    def logits(tokens):
        x = w["transformer.wte.weight"][torch.tensor(tokens)]
        growth = (torch.arange(len(tokens)).float() + 1).log() / math.log(config["seq_length"])
        for i in range(config["num_hidden_layers"]):
            layer = f"transformer.h.{i}."
            qkv = F.linear(rms_norm(x, w[layer + "ln_1.weight"], epsilon), w[layer + "attn.c_attn.weight"],
                           w[layer + "attn.c_attn.bias"])
            q, k, v = qkv.view(len(tokens), 3, heads, -1).unbind(1)
            q, k = rotate(q, config["rotary_emb_base"]), rotate(k, config["rotary_emb_base"])
            out = attention(q * growth.clamp(min=1)[:, None, None], k, v)
            x = x + F.linear(out, w[layer + "attn.c_proj.weight"])
            normed = rms_norm(x, w[layer + "ln_2.weight"], epsilon)
            x = x + mlp(normed, w[layer + "mlp.w2.weight"], w[layer + "mlp.w1.weight"], w[layer + "mlp.c_proj.weight"])
        return F.linear(rms_norm(x, w["transformer.ln_f.weight"], epsilon), w["lm_head.weight"])

    return shapes, logits


def xcomposer2(config, weight):
    """InternLM2: wqkv has, per kv head, its q heads, then k, then v. On rows of images each product adds Plora_B(Plora_A(x)), whose
    rank is 256 and whose scale 256 / 256."""
    hidden, inter, vocab, heads = (config[k] for k in ("hidden_size", "intermediate_size", "vocab_size", "num_attention_heads"))
    kv_heads, epsilon, rank = config["num_key_value_heads"], config["rms_norm_eps"], 256
    dim = hidden // heads
    products = {"attention.wqkv": [(heads + 2 * kv_heads) * dim, hidden], "attention.wo": [hidden, hidden],
                "feed_forward.w1": [inter, hidden], "feed_forward.w3": [inter, hidden], "feed_forward.w2": [hidden, inter]}
    shapes = {"model.tok_embeddings.weight": [vocab, hidden]}
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        for name, (rows, columns) in products.items():
            shapes |= {f"{layer}{name}.weight": [rows, columns], f"{layer}{name}.Plora_A.weight": [rank, columns],
                       f"{layer}{name}.Plora_B.weight": [rows, rank]}
        shapes |= {layer + "attention_norm.weight": [hidden], layer + "ffn_norm.weight": [hidden]}
    shapes |= {"model.norm.weight": [hidden], "output.weight": [vocab, hidden]}
    w = tensors(shapes, weight)

    def logits(tokens):
        of_image = torch.arange(len(tokens)) % 8 >= 5

        def product(name, x):
            out = F.linear(x, w[name + ".weight"])
            out[of_image] += F.linear(F.linear(x[of_image], w[name + ".Plora_A.weight"]), w[name + ".Plora_B.weight"])
            return out

        x = w["model.tok_embeddings.weight"][torch.tensor(tokens)]
        for i in range(config["num_hidden_layers"]):
            layer = f"model.layers.{i}."
            qkv = product(layer + "attention.wqkv", rms_norm(x, w[layer + "attention_norm.weight"], epsilon))
            groups = qkv.view(len(tokens), kv_heads, heads // kv_heads + 2, dim)
            q, k = groups[:, :, :-2].reshape(len(tokens), heads, dim), groups[:, :, -2]
            k, v = (t.repeat_interleave(heads // kv_heads, 1) for t in (rotate(k, config["rope_theta"]), groups[:, :, -1]))
            x = x + product(layer + "attention.wo", attention(rotate(q, config["rope_theta"]), k, v))
            normed = rms_norm(x, w[layer + "ffn_norm.weight"], epsilon)
            gate, up = (product(f"{layer}feed_forward.{name}", normed) for name in ("w1", "w3"))
            x = x + product(layer + "feed_forward.w2", F.silu(gate) * up)
        return F.linear(rms_norm(x, w["model.norm.weight"], epsilon), w["output.weight"])

    return shapes, logits


def deepseek(config, weight):
    """DeepSeek-MoE: softmax over all experts, the best ones' weights as they are, shared experts as one MLP, dense layers first."""
    hidden, vocab, heads = (config[k] for k in ("hidden_size", "vocab_size", "num_attention_heads"))
    epsilon, expert = config["rms_norm_eps"], config["moe_intermediate_size"]
    projections = ("gate", "up", "down")
    shapes = {"model.embed_tokens.weight": [vocab, hidden]}

    def add_mlp(prefix, inter):
        for p in projections:
            shapes[f"{prefix}{p}_proj.weight"] = [hidden, inter] if p == "down" else [inter, hidden]

    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        shapes |= {layer + f"self_attn.{p}_proj.weight": [hidden, hidden] for p in "qkvo"}
        shapes |= {layer + "input_layernorm.weight": [hidden], layer + "post_attention_layernorm.weight": [hidden]}
        if i < config["first_k_dense_replace"]:
            add_mlp(layer + "mlp.", config["intermediate_size"])
            continue
        shapes[layer + "mlp.gate.weight"] = [config["n_routed_experts"], hidden]
        for e in range(config["n_routed_experts"]):
            add_mlp(layer + f"mlp.experts.{e}.", expert)
        add_mlp(layer + "mlp.shared_experts.", config["n_shared_experts"] * expert)
    shapes |= {"model.norm.weight": [hidden], "lm_head.weight": [vocab, hidden]}
    w = tensors(shapes, weight)

    def run_mlp(prefix, x):
        return mlp(x, *(w[f"{prefix}{p}_proj.weight"] for p in projections))

    def run_moe(prefix, x):
        out = run_mlp(prefix + "shared_experts.", x)
        scores = F.linear(x, w[prefix + "gate.weight"]).softmax(-1)
        best, chosen = scores.topk(config["num_experts_per_tok"])
        for t in range(x.shape[0]):
            for score, e in zip(best[t], chosen[t].tolist()):
                out[t] += score * run_mlp(f"{prefix}experts.{e}.", x[t])
        return out

    def logits(tokens):
        x = w["model.embed_tokens.weight"][torch.tensor(tokens)]
        for i in range(config["num_hidden_layers"]):
            layer = f"model.layers.{i}."
            normed = rms_norm(x, w[layer + "input_layernorm.weight"], epsilon)
            q, k, v = (F.linear(normed, w[layer + f"self_attn.{p}_proj.weight"]).view(len(tokens), heads, -1) for p in "qkv")
            out = attention(rotate(q, config["rope_theta"]), rotate(k, config["rope_theta"]), v)
            x = x + F.linear(out, w[layer + "self_attn.o_proj.weight"])
            normed = rms_norm(x, w[layer + "post_attention_layernorm.weight"], epsilon)
            dense = i < config["first_k_dense_replace"]
            x = x + (run_mlp(layer + "mlp.", normed) if dense else run_moe(layer + "mlp.", normed))
        return F.linear(rms_norm(x, w["model.norm.weight"], epsilon), w["lm_head.weight"])

    return shapes, logits
