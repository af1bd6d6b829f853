"""Writes checkpoints/*/tensors.txt: names, types and shapes of the tensors that go with each config.json. Tensors of several
layers or experts are one line with [first-last] in the number's place.

The shapes come from transformers' own classes, built without memory, under the names that checkpoints have; of the families that
it has no class of, the class that computes the same, or the plain decoder: see make_logits.py. Run in a Python with torch and
transformers:

    python tests/golden/models/make_tensor_lists.py [CHECKPOINT...]
"""

import json
import pathlib
import re
import sys

import make_logits
import torch

HERE = pathlib.Path(__file__).parent / "checkpoints"
DTYPES = {"float16": "F16", "bfloat16": "BF16"}
# Checkpoints that hold the rotary frequencies, too.
FREQUENCIES = {"llama-2-7b": "model.layers.{}.self_attn.rotary_emb.inv_freq", "chatglm3-6b": "transformer.rotary_pos_emb.inv_freq"}


def tensors(config):
    kind = config["model_type"]
    if kind in make_logits.PLAIN:
        return make_logits.PLAIN[kind](config, lambda name, shape: None)[0]
    with torch.device("meta"):
        state = make_logits.build(kind, config).state_dict()
    if config.get("tie_word_embeddings", kind.startswith("gemma")):  # where their class has it so, its releases have no head
        state.pop("lm_head.weight", None)
    return {name: shape for name, (shape, _) in make_logits.stored_as(kind, state).items()}


def with_ranges(entries):
    """Entries (name, rest of the line) that differ in one number, rising by one, become one with [first-last] in its place."""
    for pattern in (r"experts\.(\d+)\.", r"(?:layers|h|blocks)\.(\d+)\."):
        last = {}  # of (name with a hole, rest): the entry that the next number would go on
        out = []
        for name, rest in entries:
            number = re.search(pattern, name)
            if not number:
                out.append([name, rest, None, None])
                continue
            n, key = int(number[1]), (name[:number.start(1)] + "[]" + name[number.end(1):], rest)
            if key in last and last[key][3] == n - 1:
                last[key][3] = n
            else:
                last[key] = [key[0], rest, n, n]
                out.append(last[key])
        entries = [(name if first is None else name.replace("[]", str(first) if first == end else f"[{first}-{end}]"), rest)
                   for name, rest, first, end in out]
    return entries


def prediction_layer(config, shapes):
    """What DeepSeek-V3 has behind its layers to predict the token after next: a layer like the last one, and what is around it."""
    n, hidden, vocab = config["num_hidden_layers"], config["hidden_size"], config["vocab_size"]
    last, layer = f"model.layers.{n - 1}.", f"model.layers.{n}."
    out = {name.replace(last, layer): shape for name, shape in shapes.items() if name.startswith(last)}
    around = {"embed_tokens": [vocab, hidden], "enorm": [hidden], "hnorm": [hidden], "eh_proj": [hidden, 2 * hidden],
              "shared_head.norm": [hidden], "shared_head.head": [vocab, hidden]}
    return out | {f"{layer}{name}.weight": shape for name, shape in around.items()}


def image_parts(config):
    """XComposer2's CLIP tower, whose positions its code resizes to the image's patches of 14 x 14, and its projector."""
    hidden, width, inter, patches = config["hidden_size"], 1024, 4096, config["img_size"] // 14
    tower = "vit.vision_tower.vision_model."
    out = {f"{tower}embeddings.class_embedding": [width], f"{tower}embeddings.patch_embedding.weight": [width, 3, 14, 14],
           f"{tower}embeddings.position_embedding.weight": [patches * patches + 1, width]}
    linears = {"self_attn.k_proj": (width, width), "self_attn.v_proj": (width, width), "self_attn.q_proj": (width, width),
               "self_attn.out_proj": (width, width), "mlp.fc1": (inter, width), "mlp.fc2": (width, inter)}
    layers = [f"encoder.layers.{i}." for i in range(24)]
    for norm in ["pre_layrnorm", "post_layernorm"] + [f"{layer}layer_norm{n}" for layer in layers for n in (1, 2)]:
        out |= {f"{tower}{norm}.weight": [width], f"{tower}{norm}.bias": [width]}
    for layer in layers:
        for name, (rows, columns) in linears.items():
            out |= {f"{tower}{layer}{name}.weight": [rows, columns], f"{tower}{layer}{name}.bias": [rows]}
    for name, columns in (("vision_proj.0", width), ("vision_proj.2", hidden)):
        out |= {f"{name}.weight": [hidden, columns], f"{name}.bias": [hidden]}
    return out


def main():
    for path in sorted(HERE.glob("*/config.json")):
        name = path.parent.name
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        config = json.loads(path.read_text())
        dtype = DTYPES[config.get("torch_dtype", "bfloat16")]
        shapes = tensors(config)
        if config.get("num_nextn_predict_layers"):
            shapes |= prediction_layer(config, shapes)
        if config["architectures"] == ["InternLMXComposer2ForCausalLM"]:
            shapes |= image_parts(config)
        entries = [(n, f"{dtype} {'x'.join(map(str, s))}") for n, s in shapes.items()]
        if name in FREQUENCIES:
            head_dim = config["hidden_size"] // config["num_attention_heads"]
            pattern = FREQUENCIES[name]
            size = head_dim // 2 if "layers" in pattern else head_dim // 4
            layers = config.get("num_hidden_layers", 1) if "layers" in pattern else 1
            entries += [(pattern.format(i), f"F32 {size}") for i in range(layers)]
        lines = [f"{name} {rest}\n" for name, rest in with_ranges(entries)]
        (path.parent / "tensors.txt").write_text("".join(lines))
        print(name, len(lines))


if __name__ == "__main__":
    main()
