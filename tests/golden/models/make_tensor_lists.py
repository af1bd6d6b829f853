"""Writes checkpoints/*/tensors.txt: names, types and shapes of the tensors that go with each config.json; the tensors of a layer's
experts 0 to n are one line with [0-n] in the expert's place.

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


def with_expert_ranges(shapes):
    out, last = {}, {}
    for name, shape in shapes.items():
        key = re.sub(r"experts\.\d+\.", "experts.[].", name)
        out[key] = shape
        number = re.search(r"experts\.(\d+)\.", name)
        if number:
            last[key] = int(number[1])
    return {key.replace("[]", f"[0-{last[key]}]") if key in last else key: shape for key, shape in out.items()}


def main():
    for path in sorted(HERE.glob("*/config.json")):
        name = path.parent.name
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        config = json.loads(path.read_text())
        dtype = DTYPES[config.get("torch_dtype", "bfloat16")]
        lines = [f"{n} {dtype} {'x'.join(map(str, s))}\n" for n, s in with_expert_ranges(tensors(config)).items()]
        if name in FREQUENCIES:
            head_dim = config["hidden_size"] // config["num_attention_heads"]
            pattern = FREQUENCIES[name]
            size = head_dim // 2 if "layers" in pattern else head_dim // 4
            layers = config.get("num_hidden_layers", 1) if "layers" in pattern else 1
            lines += [f"{pattern.format(i)} F32 {size}\n" for i in range(layers)]
        (path.parent / "tensors.txt").write_text("".join(lines))
        print(name, len(lines))


if __name__ == "__main__":
    main()
