"""Writes checkpoints/*/tensors.txt: names, types and shapes of the tensors that go with each config.json.

The names come from transformers' own classes, built without memory; InternLM2 has none there, so its are spelled out below
as in the checkpoints that InternLM publishes. Run in a Python with torch and transformers:

    python tests/golden/models/make_tensor_lists.py
"""

import json
import pathlib

import torch
import transformers

HERE = pathlib.Path(__file__).parent / "checkpoints"


def internlm2_tensors(config):
    hidden, vocab, inter = config["hidden_size"], config["vocab_size"], config["intermediate_size"]
    head_dim = hidden // config["num_attention_heads"]
    qkv = hidden + 2 * config["num_key_value_heads"] * head_dim
    yield "model.tok_embeddings.weight", [vocab, hidden]
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        yield layer + "attention.wo.weight", [hidden, hidden]
        yield layer + "attention.wqkv.weight", [qkv, hidden]
        yield layer + "attention_norm.weight", [hidden]
        yield layer + "feed_forward.w1.weight", [inter, hidden]
        yield layer + "feed_forward.w2.weight", [hidden, inter]
        yield layer + "feed_forward.w3.weight", [inter, hidden]
        yield layer + "ffn_norm.weight", [hidden]
    yield "model.norm.weight", [hidden]
    yield "output.weight", [vocab, hidden]


def transformers_tensors(config):
    config = {k: v for k, v in config.items() if k not in ("transformers_version", "torch_dtype")}
    model_class = getattr(transformers, config["architectures"][0])
    with torch.device("meta"):
        model = model_class(model_class.config_class.from_dict(config))
    tied = config["tie_word_embeddings"]
    for name, tensor in model.state_dict().items():
        if not (tied and name == "lm_head.weight"):
            yield name, list(tensor.shape)


def main():
    for path in sorted(HERE.glob("*/config.json")):
        config = json.loads(path.read_text())
        dtype = {"float16": "F16", "bfloat16": "BF16"}[config["torch_dtype"]]
        tensors = (internlm2_tensors if config["model_type"] == "internlm2" else transformers_tensors)(config)
        lines = [f"{name} {dtype} {'x'.join(map(str, shape))}\n" for name, shape in tensors]
        if path.parent.name == "llama-2-7b":  # Meta's checkpoint of 2023 stores the rotary frequencies, too
            head_dim = config["hidden_size"] // config["num_attention_heads"]
            for i in range(config["num_hidden_layers"]):
                lines.append(f"model.layers.{i}.self_attn.rotary_emb.inv_freq F32 {head_dim // 2}\n")
        (path.parent / "tensors.txt").write_text("".join(lines))
        print(path.parent.name, len(lines))


if __name__ == "__main__":
    main()
