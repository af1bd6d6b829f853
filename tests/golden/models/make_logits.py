"""Makes tiny/*: for each variant a config.json, tensors.txt and logits.f32, and one tokenizer.json.

Weights are not stored: each is a function of its tensor's name and its index (weight() below, and TinyWeights() in
tests/support/tiny_models.cc), so that only what the reference computes from them is kept. The reference is transformers' class
where it has one; for the others `like` in VARIANTS names the class that computes the same once tensors have its names
(stored_as() below), or it is plain_decoder.py. logits.f32 holds, for each prompt and each of the positions that PROMPTS names,
vocab_size little-endian floats. Run in a Python with torch, transformers and tokenizers:

    python tests/golden/models/make_logits.py [VARIANT...]
"""

import copy
import json
import math
import pathlib
import re
import sys

import numpy as np
import plain_decoder
import tokenizers
import torch
import transformers

HERE = pathlib.Path(__file__).parent / "tiny"
VOCAB = 288

# (length, positions with logits). Token ids: position p of prompt i is (p * p * 7 + p * 13 + i * 29) % VOCAB; the last prompt
# crosses a KV block of 64.
PROMPTS = [(1, [0]), (9, range(9)), (70, [23, 47, 69])]

# The epsilon is large enough to show in the logits.
COMMON = {
    "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 96,
    "max_position_embeddings": 256, "num_attention_heads": 4, "num_hidden_layers": 3, "num_key_value_heads": 2,
    "rms_norm_eps": 0.5, "tie_word_embeddings": False, "torch_dtype": "float32", "vocab_size": VOCAB,
}
GEMMA = {"head_dim": 32, "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True, "query_pre_attn_scalar": 24,
         "rope_theta": 10000.0, "sliding_window": 24}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "beta_fast": 8.0, "beta_slow": 1.0}
CHATGLM = {
    "architectures": ["ChatGLMModel"], "model_type": "chatglm", "add_bias_linear": False, "add_qkv_bias": True,
    "apply_residual_connection_post_layernorm": False, "bos_token_id": 1, "eos_token_id": 2, "ffn_hidden_size": 96,
    "hidden_size": 64, "kv_channels": 16, "layernorm_epsilon": 0.5, "multi_query_attention": True, "multi_query_group_num": 2,
    "num_attention_heads": 4, "num_layers": 3, "original_rope": True, "padded_vocab_size": VOCAB, "post_layer_norm": True,
    "rmsnorm": True, "rope_ratio": 0.5, "seq_length": 256, "tie_word_embeddings": False, "torch_dtype": "float32",
}
FALCON = {
    "architectures": ["FalconForCausalLM"], "model_type": "falcon", "alibi": False, "bias": False, "bos_token_id": 1,
    "eos_token_id": 2, "hidden_size": 64, "layer_norm_epsilon": 0.5, "max_position_embeddings": 256, "num_attention_heads": 4,
    "num_hidden_layers": 3, "rope_theta": 10000.0, "tie_word_embeddings": True, "torch_dtype": "float32", "vocab_size": VOCAB,
}
LATENT = {"first_k_dense_replace": 1, "kv_lora_rank": 32, "moe_intermediate_size": 48, "moe_layer_freq": 1, "n_routed_experts": 8,
          "n_shared_experts": 2, "num_experts_per_tok": 3, "num_key_value_heads": 4, "qk_nope_head_dim": 20, "qk_rope_head_dim": 8,
          "rope_theta": 10000.0, "v_head_dim": 12}
DEEPSEEK_YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 8, "beta_slow": 1,
                 "mscale": 0.707, "mscale_all_dim": 0.707}
MOE = {"moe_intermediate_size": 48, "num_experts": 6, "num_experts_per_tok": 3}
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
    "internlm": {"architectures": ["InternLMForCausalLM"], "model_type": "internlm", "bias": True, "max_position_embeddings": 35,
                 "rotary": {"base": 20000, "scaling_factor": 2.0, "type": "dynamic"}},
    "internlm2": {
        "architectures": ["InternLM2ForCausalLM"], "model_type": "internlm2", "rope_theta": 1000000.0, "bias": True,
        "rope_scaling": {"type": "linear", "factor": 2.0},
    },
    "xcomposer2": {"architectures": ["InternLMXComposer2ForCausalLM"], "model_type": "internlmxcomposer2", "bias": False,
                   "rope_theta": 1000000.0},
    "qwen2": {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}, "use_sliding_window": False,
    },
    "qwen3": {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "head_dim": 32, "attention_bias": False,
        "max_position_embeddings": 128, "rope_theta": 10000.0, "rope_scaling": YARN,
    },
    "gemma": {"architectures": ["GemmaForCausalLM"], "model_type": "gemma", "hidden_act": "gelu_pytorch_tanh",
              "head_dim": 32, "tie_word_embeddings": True, "num_key_value_heads": 1, "rope_theta": 10000.0},
    "gemma2": {"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", **GEMMA,
               "attn_logit_softcapping": 5.0, "final_logit_softcapping": 8.0},
    "gemma3": {"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", **GEMMA, "rope_theta": 1000000.0,
               "rope_local_base_freq": 10000.0, "sliding_window_pattern": 2, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    "phi3": {
        "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "pad_token_id": 0, "rope_theta": 10000.0, "sliding_window": 40,
        "original_max_position_embeddings": 128, "partial_rotary_factor": 0.75,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.1, 1.3, 1.6, 2.0, 2.5], "long_factor": [1, 2, 3, 4, 5, 6]},
    },
    # The longest prompt is beyond the original length; in llama_dynamic by so much as the doubling allows.
    "phi3_long": {
        "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "pad_token_id": 0, "rope_theta": 10000.0,
        "original_max_position_embeddings": 32,
        "rope_scaling": {"type": "longrope", "short_factor": [1, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2],
                         "long_factor": [1, 2, 3, 4, 5, 6, 7, 8]},
    },
    "llama_dynamic": {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "max_position_embeddings": 35,
                      "rope_theta": 10000.0, "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
    "chatglm": CHATGLM,
    "glm4": {"architectures": ["Glm4ForCausalLM"], "model_type": "glm4", "attention_bias": True, "head_dim": 16,
             "partial_rotary_factor": 0.5, "pad_token_id": 0, "rope_theta": 10000.0},
    "granite": {"architectures": ["GraniteForCausalLM"], "model_type": "granite", "embedding_multiplier": 3.0,
                "attention_multiplier": 0.2, "residual_multiplier": 0.6, "logits_scaling": 2.0, "rope_theta": 10000.0},
    "mixtral": {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "num_local_experts": 5,
                "num_experts_per_tok": 2, "rope_theta": 10000.0},
    "qwen": {"architectures": ["QWenLMHeadModel"], "model_type": "qwen", "bos_token_id": 1, "eos_token_id": 2,
             "hidden_size": 64, "intermediate_size": 192, "kv_channels": 16, "layer_norm_epsilon": 0.5, "no_bias": True,
             "num_attention_heads": 4, "num_hidden_layers": 3, "rotary_emb_base": 10000, "rotary_pct": 1.0,
             "scale_attn_weights": True, "seq_length": 8, "tie_word_embeddings": False, "torch_dtype": "float32",
             "use_dynamic_ntk": False, "use_logn_attn": True, "vocab_size": VOCAB},
    "baichuan": {"architectures": ["BaiChuanForCausalLM"], "model_type": "baichuan", "num_key_value_heads": None},
    # Six heads: two slopes are inserted.
    "baichuan_13b": {"architectures": ["BaichuanForCausalLM"], "model_type": "baichuan", "hidden_size": 96,
                     "max_position_embeddings": None, "model_max_length": 256, "num_attention_heads": 6,
                     "num_key_value_heads": None},
    "falcon": {**FALCON, "multi_query": True, "new_decoder_architecture": False, "parallel_attn": True},
    "falcon_40b": {**FALCON, "num_kv_heads": 2, "new_decoder_architecture": True, "parallel_attn": True},
    "falcon_rw": {**FALCON, "alibi": True, "bias": True, "multi_query": False, "new_decoder_architecture": False,
                  "parallel_attn": False},
    "qwen2_moe": {"architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe", **MOE, "decoder_sparse_step": 1,
                  "norm_topk_prob": False, "qkv_bias": True, "rope_theta": 10000.0, "shared_expert_intermediate_size": 40},
    "qwen3_moe": {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", **MOE, "decoder_sparse_step": 1,
                  "head_dim": 32, "mlp_only_layers": [1], "norm_topk_prob": True, "rope_theta": 10000.0},
    "deepseek_moe": {"architectures": ["DeepseekForCausalLM"], "model_type": "deepseek", "first_k_dense_replace": 1,
                     "moe_intermediate_size": 48, "moe_layer_freq": 1, "n_routed_experts": 6, "n_shared_experts": 2,
                     "norm_topk_prob": False, "num_experts_per_tok": 3, "num_key_value_heads": 4, "rope_theta": 10000.0,
                     "scoring_func": "softmax"},
    "deepseek_v2": {"architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", **LATENT, "n_group": 4,
                    "norm_topk_prob": False, "q_lora_rank": 24, "routed_scaling_factor": 2.5, "rope_scaling": DEEPSEEK_YARN,
                    "scoring_func": "softmax", "topk_group": 2, "topk_method": "group_limited_greedy"},
    "deepseek_v2_lite": {"architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", **LATENT, "n_group": 1,
                         "norm_topk_prob": False, "q_lora_rank": None, "routed_scaling_factor": 1.5,
                         "rope_scaling": {**DEEPSEEK_YARN, "mscale": 1.0}, "scoring_func": "softmax", "topk_group": 1,
                         "topk_method": "greedy"},
    "deepseek_v3": {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", **LATENT, "n_group": 3,
                    "n_routed_experts": 6, "norm_topk_prob": True, "q_lora_rank": 24, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid",
                    "topk_group": 2, "topk_method": "noaux_tc"},
    "dbrx": {"architectures": ["DbrxForCausalLM"], "model_type": "dbrx",
             "attn_config": {"clip_qkv": 1.5, "kv_n_heads": 2, "rope_theta": 10000.0}, "d_model": 64,
             "ffn_config": {"ffn_act_fn": {"name": "silu"}, "ffn_hidden_size": 48, "moe_normalize_expert_weights": 1.0,
                            "moe_num_experts": 5, "moe_top_k": 2},
             "max_seq_len": 256, "n_heads": 4, "n_layers": 3, "tie_word_embeddings": False, "torch_dtype": "float32",
             "vocab_size": VOCAB},
}
# Those whose configurations have names of their own for most fields.
COMPLETE = ("chatglm", "qwen", "dbrx", "falcon", "falcon_40b", "falcon_rw")


def is_norm(name):
    module = name.removesuffix(".weight").rsplit(".", 1)[-1]
    return "norm" in module or module.startswith("ln_")


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
    if name.endswith("bias"):
        n = 0.2 * n
    elif is_norm(name):
        n = 1.0 + 0.2 * n
    else:
        n = 0.3 * n
    return torch.from_numpy(n.astype(np.float32).reshape(shape))


# For the families without a class: the class that computes the same, and its configuration.
def like_internlm(config):
    rotary = config.get("rotary")
    rope = rotary and {"rope_type": rotary["type"], "rope_theta": rotary["base"], "factor": rotary.get("scaling_factor", 1.0)}
    return "LlamaForCausalLM", {**config, "attention_bias": config["bias"], **({"rope_parameters": rope} if rope else {})}


def like_chatglm(config):
    names = {"padded_vocab_size": "vocab_size", "num_layers": "num_hidden_layers", "ffn_hidden_size": "intermediate_size",
             "multi_query_group_num": "num_key_value_heads", "kv_channels": "head_dim", "layernorm_epsilon": "rms_norm_eps",
             "seq_length": "max_position_embeddings", "add_qkv_bias": "attention_bias"}
    glm = {names.get(k, k): v for k, v in config.items()}
    rope = {"rope_type": "default", "rope_theta": 10000.0 * config.get("rope_ratio", 1.0), "partial_rotary_factor": 0.5}
    return "GlmForCausalLM", {**glm, "pad_token_id": 0, "rope_parameters": rope}


# Those whose embeddings are kept too: embeddings.f32 holds, for each prompt, the normalised mean of the last hidden states.
EMBEDDED = ("llama", "gemma2", "falcon")
LIKE = {"internlm": like_internlm, "internlm2": like_internlm, "chatglm": like_chatglm}
PLAIN = {"baichuan": plain_decoder.baichuan, "qwen": plain_decoder.qwen, "deepseek": plain_decoder.deepseek,
         "internlmxcomposer2": plain_decoder.xcomposer2}


# How checkpoints call what the class calls otherwise: pattern of the class's name, name.
RENAMED = {
    "mixtral": [(r"\.mlp\.gate\.", ".block_sparse_moe.gate.")],
    "internlm2": [
        (r"model\.embed_tokens", "model.tok_embeddings"), (r"lm_head", "output"), (r"self_attn\.o_proj", "attention.wo"),
        (r"input_layernorm", "attention_norm"), (r"post_attention_layernorm", "ffn_norm"),
        (r"mlp\.gate_proj", "feed_forward.w1"), (r"mlp\.up_proj", "feed_forward.w3"), (r"mlp\.down_proj", "feed_forward.w2"),
        (r"self_attn\.[qkv]_proj", "attention.wqkv"),
    ],
    "chatglm": [
        (r"model\.embed_tokens", "transformer.embedding.word_embeddings"), (r"lm_head", "transformer.output_layer"),
        (r"model\.layers", "transformer.encoder.layers"), (r"model\.norm", "transformer.encoder.final_layernorm"),
        (r"self_attn\.o_proj", "self_attention.dense"), (r"self_attn\.[qkv]_proj", "self_attention.query_key_value"),
        (r"mlp\.gate_up_proj", "mlp.dense_h_to_4h"), (r"mlp\.down_proj", "mlp.dense_4h_to_h"),
    ],
}
EXPERT_NAMES = {"mixtral": ("block_sparse_moe.experts.{}.w1", "block_sparse_moe.experts.{}.w3", "block_sparse_moe.experts.{}.w2")}
LLAMA_EXPERTS = ("mlp.experts.{}.gate_proj", "mlp.experts.{}.up_proj", "mlp.experts.{}.down_proj")


def stored_as(kind, state):
    """The checkpoint's tensors, and for each the class's tensors that lie in it: {name: (shape, [(class name, index)])}.

    A tensor with several has them one behind the other; an index takes an expert's (and then gate's or up's) part of the class's.
    """
    out = {}
    gate, up, down = EXPERT_NAMES.get(kind, LLAMA_EXPERTS)
    for name, tensor in state.items():
        shape = list(tensor.shape)
        layer = re.match(r"(.*\.)mlp\.experts\.(gate_up|down)_proj$", name)
        if layer:
            for e in range(shape[0]):
                half = shape[1] // 2
                if layer[2] == "down":
                    out[layer[1] + down.format(e) + ".weight"] = ([shape[1], shape[2]], [(name, (e,))])
                else:
                    out[layer[1] + gate.format(e) + ".weight"] = ([half, shape[2]], [(name, (e, slice(0, half)))])
                    out[layer[1] + up.format(e) + ".weight"] = ([half, shape[2]], [(name, (e, slice(half, None)))])
            continue
        stored = name
        for pattern, to in RENAMED.get(kind, []):
            stored = re.sub(pattern, to, stored)
        before, parts = out.get(stored, ([0], []))
        out[stored] = ([before[0] + shape[0]] + shape[1:], parts + [(name, ())])
    return out


def take_apart(kind, config, value, count):
    """A checkpoint's tensor into the `count` tensors of the class that it holds."""
    if kind == "internlm2" and count == 3:
        heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        groups = value.reshape([kv_heads, heads // kv_heads + 2, -1] + list(value.shape[1:]))
        return [part.reshape([-1] + list(value.shape[1:])) for part in (groups[:, :-2], groups[:, -2], groups[:, -1])]
    if kind == "chatglm" and count == 3:
        kv = config["multi_query_group_num"] * config["kv_channels"]
        return value.split([value.shape[0] - 2 * kv, kv, kv])
    assert count == 1
    return [value]


def build(kind, config):
    """transformers' class, or the one that computes the same."""
    config = {k: v for k, v in copy.deepcopy(config).items() if k not in ("torch_dtype", "transformers_version", "auto_map")}
    name, class_config = LIKE[kind](config) if kind in LIKE else (config["architectures"][0], config)
    model_class = getattr(transformers, name)
    hf_config = model_class.config_class.from_dict(class_config)
    # Falcon's eager attention of transformers 5.17 adds ALiBi twice: to the scores, and with the mask.
    hf_config._attn_implementation = "sdpa" if config.get("alibi") else "eager"
    hf_config._experts_implementation = "eager"
    return model_class(hf_config)


def class_reference(kind, config):
    """(shapes of the checkpoint's tensors, function from tokens to logits, model without its head) by transformers' class."""
    model = build(kind, config).float().eval()
    state = model.state_dict()
    if config["tie_word_embeddings"]:
        del state["lm_head.weight"]
    shapes = {}
    with torch.no_grad():
        for stored, (shape, parts) in stored_as(kind, state).items():
            shapes[stored] = shape
            for (target, index), value in zip(parts, take_apart(kind, config, weight(stored, shape), len(parts))):
                state[target][index].copy_(value)
    return shapes, lambda prompt: model(torch.tensor([prompt])).logits[0].float(), model.base_model


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


def make(variant):
    config = {**({} if variant in COMPLETE else COMMON), **VARIANTS[variant]}
    # q_lora_rank has another default than none.
    config = {k: v for k, v in config.items() if v is not None or k == "q_lora_rank"}
    kind = config["model_type"]
    folder = HERE / variant
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    shapes, logits_of, *base = PLAIN[kind](config, weight) if kind in PLAIN else class_reference(kind, config)
    (folder / "tensors.txt").write_text("".join(f"{n} F32 {'x'.join(map(str, s))}\n" for n, s in shapes.items()))
    rows, embeddings = [], []
    with torch.no_grad():
        for i, (length, positions) in enumerate(PROMPTS):
            prompt = [(p * p * 7 + p * 13 + i * 29) % VOCAB for p in range(length)]
            logits = logits_of(prompt)
            rows += [logits[p].numpy() for p in positions]
            if variant in EMBEDDED:
                mean = base[0](torch.tensor([prompt])).last_hidden_state[0].float().mean(dim=0)
                embeddings.append((mean / mean.norm()).numpy())
    if embeddings:
        np.stack(embeddings).astype("<f4").tofile(folder / "embeddings.f32")
    np.stack(rows).astype("<f4").tofile(folder / "logits.f32")
    print(variant, "logits' deviation", round(float(np.stack(rows).std()), 2))


def main():
    torch.set_num_threads(1)
    HERE.mkdir(exist_ok=True)
    make_tokenizer()
    for variant in sys.argv[1:] or VARIANTS:
        make(variant)


if __name__ == "__main__":
    main()
