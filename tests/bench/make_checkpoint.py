#!/usr/bin/env python3
"""Writes a checkpoint of random bf16 weights, to measure how fast a model of some shape is loaded: Llama's, or InternLM2's for a
configuration of that architecture, whose rows of q, k and v have another order than the kernels'.

usage: make_checkpoint.py CONFIG_JSON FOLDER      writes config.json, model.safetensors and a tokenizer.json of single bytes
"""
import json
import os
import shutil
import struct
import sys

BLOCK = 16 << 20
ONE = b"\x80\x3f"


def tensors(config):
    """(name, shape) of every tensor; vectors are norms."""
    hidden, inter, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    dim = config.get("head_dim", hidden // heads)
    if config["architectures"] == ["InternLM2ForCausalLM"]:
        embed, head = "model.tok_embeddings", "output"
        layer = {
            "attention_norm": [hidden],
            "attention.wqkv": [(heads + 2 * kv) * dim, hidden],
            "attention.wo": [hidden, heads * dim],
            "ffn_norm": [hidden],
            "feed_forward.w1": [inter, hidden],
            "feed_forward.w3": [inter, hidden],
            "feed_forward.w2": [hidden, inter],
        }
    else:
        embed, head = "model.embed_tokens", "lm_head"
        layer = {
            "input_layernorm": [hidden],
            "self_attn.q_proj": [heads * dim, hidden],
            "self_attn.k_proj": [kv * dim, hidden],
            "self_attn.v_proj": [kv * dim, hidden],
            "self_attn.o_proj": [hidden, heads * dim],
            "post_attention_layernorm": [hidden],
            "mlp.gate_proj": [inter, hidden],
            "mlp.up_proj": [inter, hidden],
            "mlp.down_proj": [hidden, inter],
        }
    yield embed + ".weight", [vocab, hidden]
    for i in range(config["num_hidden_layers"]):
        for name, shape in layer.items():
            yield f"model.layers.{i}.{name}.weight", shape
    yield "model.norm.weight", [hidden]
    yield head + ".weight", [vocab, hidden]


def random_block():
    """Values of both signs from 2^-7 to 2^-6."""
    block = bytearray(BLOCK)
    block[0::2] = os.urandom(BLOCK // 2)
    block[1::2] = os.urandom(BLOCK // 2).translate(bytes(byte & 0x80 | 0x3C for byte in range(256)))
    return bytes(block)


def write_weights(config, path):
    header, offset = {}, 0
    for name, shape in tensors(config):
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    block = random_block()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in header.values():
            begin, end = tensor["data_offsets"]
            if len(tensor["shape"]) == 1:
                file.write(ONE * ((end - begin) // 2))
                continue
            for at in range(begin, end, BLOCK):
                file.write(memoryview(block)[:min(BLOCK, end - at)])


def byte_characters():
    """GPT-2's character for each byte."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return {**{byte: chr(byte) for byte in printable}, **{byte: chr(256 + i) for i, byte in enumerate(others)}}


def write_tokenizer(folder):
    vocabulary = {character: byte for byte, character in byte_characters().items()}
    tokenizer = {"version": "1.0", "added_tokens": [], "normalizer": None,
                 "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
                 "post_processor": None, "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
                 "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                           "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary, "merges": []}}
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as file:
        json.dump(tokenizer, file)


def main(config_path, folder):
    config = json.load(open(config_path, encoding="utf-8"))
    os.makedirs(folder, exist_ok=True)
    shutil.copy(config_path, os.path.join(folder, "config.json"))
    write_tokenizer(folder)
    write_weights(config, os.path.join(folder, "model.safetensors"))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
