"""Makes tiny/*: for each variant a config.json, tensors.txt and logits.f32 (transformers' fp32 logits), and one tokenizer.json.

Weights are not stored: each is a function of its tensor's name and its index (weight() below, and TinyWeights() in
tests/support/tiny_models.cc), so that only what the reference computes from them is kept. logits.f32 holds, for each prompt of
PROMPTS and each of its positions, vocab_size little-endian floats. Run in a Python with torch, transformers and tokenizers:

    python tests/golden/models/make_logits.py
"""

import copy
import json
import math
import pathlib

import numpy as np
import tokenizers
import torch
import transformers

HERE = pathlib.Path(__file__).parent / "tiny"
VOCAB = 288

# Token ids: position p of prompt i is (p * p * 7 + p * 13 + i * 29) % VOCAB; the last prompt crosses a KV block of 64.
PROMPT_LENGTHS = [1, 9, 70]
PROMPTS = [[(p * p * 7 + p * 13 + i * 29) % VOCAB for p in range(n)] for i, n in enumerate(PROMPT_LENGTHS)]

# The epsilon is large enough to show in the logits.
COMMON = {
    "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 96,
    "max_position_embeddings": 256, "num_attention_heads": 4, "num_hidden_layers": 3, "num_key_value_heads": 2,
    "rms_norm_eps": 0.5, "tie_word_embeddings": False, "torch_dtype": "float32", "vocab_size": VOCAB,
}
VARIANTS = {
    "llama": {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_theta": 10000.0},
    # Rotary wavelengths of 6, 11, 20, 35 … positions: kept, blended and stretched ones all occur.
    "llama3": {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_theta": 10000.0, "head_dim": 32,
        "attention_bias": True, "mlp_bias": True,
        "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 32},
    },
    "mistral": {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "rope_theta": 10000.0, "sliding_window": 24},
    "internlm2": {
        "architectures": ["InternLM2ForCausalLM"], "model_type": "internlm2", "rope_theta": 1000000.0, "bias": True,
        "rope_scaling": {"type": "linear", "factor": 2.0},
    },
    "qwen2": {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}, "use_sliding_window": False,
    },
}


def weight(name, shape):
    """Uniform with unit variance from a hash, then matrices * 0.3, norms 1 + 0.2 n, biases 0.2 n."""
    seed = np.uint64(0xCBF29CE484222325)
    with np.errstate(over="ignore"):
        for byte in name.encode():
            seed = (seed ^ np.uint64(byte)) * np.uint64(0x100000001B3)
        x = seed + np.arange(math.prod(shape), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    n = ((x >> np.uint64(40)).astype(np.float64) / 2.0**23 - 1.0) * 1.7320508075688772
    if name.endswith(".bias"):
        n = 0.2 * n
    elif "norm" in name:
        n = 1.0 + 0.2 * n
    else:
        n = 0.3 * n
    return n.astype(np.float32).reshape(shape)


def internlm2_shapes(config):
    hidden, inter = config["hidden_size"], config["intermediate_size"]
    head_dim = hidden // config["num_attention_heads"]
    qkv = hidden + 2 * config["num_key_value_heads"] * head_dim
    shapes = {"model.tok_embeddings.weight": [VOCAB, hidden], "model.norm.weight": [hidden], "output.weight": [VOCAB, hidden]}
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        shapes[layer + "attention.wqkv.weight"] = [qkv, hidden]
        shapes[layer + "attention.wqkv.bias"] = [qkv]
        shapes[layer + "attention.wo.weight"] = [hidden, hidden]
        shapes[layer + "attention.wo.bias"] = [hidden]
        shapes[layer + "attention_norm.weight"] = [hidden]
        shapes[layer + "ffn_norm.weight"] = [hidden]
        shapes[layer + "feed_forward.w1.weight"] = [inter, hidden]
        shapes[layer + "feed_forward.w3.weight"] = [inter, hidden]
        shapes[layer + "feed_forward.w2.weight"] = [hidden, inter]
    return shapes


def internlm2_as_llama(config, weights):
    """InternLM2 has no class in transformers; with wqkv taken apart it is a Llama with attention biases."""
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    head_dim = config["hidden_size"] // heads
    names = {"attention.wo.weight": "self_attn.o_proj.weight", "attention.wo.bias": "self_attn.o_proj.bias",
             "attention_norm.weight": "input_layernorm.weight", "ffn_norm.weight": "post_attention_layernorm.weight",
             "feed_forward.w1.weight": "mlp.gate_proj.weight", "feed_forward.w3.weight": "mlp.up_proj.weight",
             "feed_forward.w2.weight": "mlp.down_proj.weight"}
    out = {}
    for name, value in weights.items():
        if ".attention.wqkv." in name:
            kind = name.rsplit(".", 1)[1]
            layer = name.split(".attention.")[0]
            groups = value.reshape([kv_heads, heads // kv_heads + 2, head_dim] + list(value.shape[1:]))
            parts = {"q": groups[:, :-2], "k": groups[:, -2], "v": groups[:, -1]}
            for part, rows in parts.items():
                out[f"{layer}.self_attn.{part}_proj.{kind}"] = rows.reshape([-1] + list(value.shape[1:]))
        elif name.startswith("model.layers."):
            _, _, i, rest = name.split(".", 3)
            out[f"model.layers.{i}.{names[rest]}"] = value
        else:
            out[{"model.tok_embeddings.weight": "model.embed_tokens.weight", "output.weight": "lm_head.weight"}.get(name, name)] = value
    llama = copy.deepcopy(config)
    llama["architectures"], llama["model_type"] = ["LlamaForCausalLM"], "llama"
    llama["attention_bias"] = llama.pop("bias")
    return llama, out


def build(config):
    config = {k: v for k, v in copy.deepcopy(config).items() if k != "torch_dtype"}
    model_class = getattr(transformers, config["architectures"][0])
    hf_config = model_class.config_class.from_dict(config)
    hf_config._attn_implementation = "eager"
    return model_class(hf_config).float().eval()


def reference(config):
    """(shapes of the checkpoint's tensors, model with those weights)"""
    if config["model_type"] == "internlm2":
        shapes = internlm2_shapes(config)
        llama, weights = internlm2_as_llama(config, {name: weight(name, shape) for name, shape in shapes.items()})
        model = build(llama)
    else:
        model = build(config)
        shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
        if config["tie_word_embeddings"]:
            del shapes["lm_head.weight"]
        weights = {name: weight(name, shape) for name, shape in shapes.items()}
    state = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in weights.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    return shapes, model


def make_tokenizer():
    """Byte-level BPE with 4 special tokens, 256 bytes and 28 merges."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCAB, show_progress=False, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<unk>", "<s>", "</s>", "<|user|>"])
    tokenizer.train_from_iterator(["the ship lies at the berth and the crane loads the other ship in the morning"] * 8, trainer)
    assert tokenizer.get_vocab_size() == VOCAB
    tokenizer.save(str(HERE / "tokenizer.json"))


def main():
    HERE.mkdir(exist_ok=True)
    make_tokenizer()
    for variant, fields in VARIANTS.items():
        config = {**COMMON, **fields}
        folder = HERE / variant
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        shapes, model = reference(config)
        (folder / "tensors.txt").write_text("".join(f"{n} F32 {'x'.join(map(str, s))}\n" for n, s in shapes.items()))
        with torch.no_grad():
            logits = [model(torch.tensor([prompt])).logits[0].float().numpy() for prompt in PROMPTS]
        np.concatenate(logits).astype("<f4").tofile(folder / "logits.f32")
        rope = getattr(model.model, "rotary_emb").inv_freq.tolist()
        print(variant, "logits std", [round(float(l.std()), 2) for l in logits], "inv_freq", [round(f, 5) for f in rope])


if __name__ == "__main__":
    main()
