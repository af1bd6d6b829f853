"""A model that cannot be served is one clear line and an exit code, whatever is wrong with it or with the device."""
import glob
import json
import os
import resource
import struct
import subprocess

import pytest

ROOT = os.path.join(os.path.dirname(__file__), "..", "..")
DEMO_MODELS = glob.glob(os.path.join(ROOT, ".cache", "models", "*.gguf"))
HIDDEN, VOCABULARY = 64, 2000
SHAPES = {
    "model.embed_tokens.weight": (VOCABULARY, HIDDEN), "model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCABULARY, HIDDEN),
    **{f"model.layers.0.{name}.weight": shape for name, shape in {
        "input_layernorm": (HIDDEN,), "post_attention_layernorm": (HIDDEN,), "self_attn.q_proj": (HIDDEN, HIDDEN),
        "self_attn.k_proj": (HIDDEN, HIDDEN), "self_attn.v_proj": (HIDDEN, HIDDEN), "self_attn.o_proj": (HIDDEN, HIDDEN),
        "mlp.gate_proj": (HIDDEN, HIDDEN), "mlp.up_proj": (HIDDEN, HIDDEN), "mlp.down_proj": (HIDDEN, HIDDEN)}.items()},
}  # fmt: skip


def config(**more):
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN, "intermediate_size": HIDDEN,
            "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": VOCABULARY,
            "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
            "tie_word_embeddings": False, "torch_dtype": "float32", "bos_token_id": 1, "eos_token_id": 2, **more}  # fmt: skip


def safetensors(shapes):
    header, data = {}, b""
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        begin = len(data)
        data += b"\0" * (4 * count)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def directory(path, settings=None, weights=None, template="{{ messages[0].content }}"):
    path.mkdir()
    (path / "config.json").write_text(json.dumps(settings or config()))
    (path / "model.safetensors").write_bytes(weights or safetensors(SHAPES))
    (path / "tokenizer.json").write_text(open(os.path.join(ROOT, "tests/golden/text/smollm.json"), encoding="utf-8").read())
    (path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template, "eos_token": "<|im_end|>"}))
    return path


@pytest.fixture
def refusal(request):
    """What a worker says about a model that it does not serve. `memory`: bytes that the process may have; None: any."""

    def refuse(model, *arguments, code=1, memory=None):
        worker = os.path.join(request.config.getoption("--bin-dir"), "berth-worker")
        ended = subprocess.run([worker, "--model", str(model), *arguments], capture_output=True, text=True, timeout=60,
                               preexec_fn=memory and (lambda: resource.setrlimit(resource.RLIMIT_AS, (memory, memory))))  # fmt: skip
        assert ended.returncode == code, ended
        assert ended.stdout == ""
        lines = ended.stderr.splitlines()
        assert len(lines) == 1 and lines[0].startswith("berth-worker: "), ended.stderr
        return lines[0]

    return refuse


def test_the_sound_directory_is_served(tmp_path, request):
    worker = os.path.join(request.config.getoption("--bin-dir"), "berth-worker")
    with subprocess.Popen([worker, "--model", directory(tmp_path / "m")], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        line = child.stdout.readline()
        child.terminate()
        assert line and json.loads(line)["ready"], child.stderr.read()


@pytest.mark.parametrize("what, expected", {
    "nothing there": ("gone",), "no model": ("config.json",), "unknown architecture": ("WhisperForConditionalGeneration",),
    "missing tensor": ("model.layers.0.mlp.up_proj.weight",), "wrong shape": ("model.layers.0.mlp.up_proj.weight", "63"),
    "truncated": ("model.safetensors",), "flipped header": ("model.safetensors",), "config is no JSON": ("config.json",),
    "template does not parse": ("line 1",), "a negative size": ("hidden_size",),
}.items())  # fmt: skip
def test_directories(tmp_path, refusal, what, expected):
    path = tmp_path / "gone"
    whole = safetensors(SHAPES)
    if what == "no model":
        path.mkdir()
    elif what == "unknown architecture":
        directory(path, config(architectures=["WhisperForConditionalGeneration"], model_type="whisper"))
    elif what == "missing tensor":
        directory(path, weights=safetensors({n: s for n, s in SHAPES.items() if n != "model.layers.0.mlp.up_proj.weight"}))
    elif what == "wrong shape":
        directory(path, weights=safetensors({**SHAPES, "model.layers.0.mlp.up_proj.weight": (HIDDEN - 1, HIDDEN)}))
    elif what == "truncated":
        directory(path, weights=whole[: len(whole) // 2])
    elif what == "flipped header":
        directory(path, weights=whole[:7] + b"\x40" + whole[8:])
    elif what == "config is no JSON":
        directory(path)
        (path / "config.json").write_text("{")
    elif what == "template does not parse":
        directory(path, template="{% for message in messages %}{{ message.content }")
    elif what == "a negative size":
        directory(path, config(hidden_size=-64))
    said = refusal(path)
    for word in expected:
        assert word in said


def test_a_gpu_that_is_not_there(tmp_path, refusal):
    said = refusal(directory(tmp_path / "m"), "--device", "cuda:99", code=4)
    assert "CUDA" in said or "device 99" in said


def test_memory_that_does_not_suffice(tmp_path, refusal):
    said = refusal(directory(tmp_path / "m"), "--device", "cpu", "--kv-bytes", str(64 << 30), code=5, memory=8 << 30)
    assert "no host memory for 687" in said
def test_an_unknown_chat_template(tmp_path, refusal):
    said = refusal(directory(tmp_path / "m"), "--chat-template", "no-such-template")
    assert "--chat-template is no-such-template" in said and "vicuna" in said


@pytest.mark.skipif(not DEMO_MODELS, reason="the demo model is not in .cache/models")
@pytest.mark.parametrize("what, old, new, expected", [
    ("truncated", None, None, "truncated"),
    ("magic", b"GGUF", b"GGUX", "GGUF"),
    ("unknown architecture", b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0lamma", "lamma"),
    ("missing tensor", b"blk.3.ffn_up.weight", b"blk.3.ffn_xx.weight", "blk.3.ffn_"),
    ("template does not parse", b"{% for message", b"{% fro message", "fro"),
])  # fmt: skip
def test_gguf(tmp_path, refusal, what, old, new, expected):
    with open(DEMO_MODELS[0], "rb") as file:
        whole = file.read()
    assert old is None or old in whole
    path = tmp_path / "model.gguf"
    path.write_bytes(whole[: len(whole) // 2] if old is None else whole.replace(old, new, 1))
    assert expected in refusal(path)
