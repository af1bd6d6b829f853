"""Makes the .bin files beside it: random rows of every weight format and the values that the gguf package reads from them.

Run with the PyPI packages gguf==0.19.0 and numpy: python3 tests/golden/kernels/make_dequantize.py
A file is the bytes of one row of 512 values, then the values as little-endian f32.
"""

import pathlib

import gguf
import numpy as np

VALUES = 512
# Where a block's f16 scales lie; all other bits of a block are legal whatever they are.
SCALES = {
    "F16": None, "BF16": None, "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q8_0": [0], "Q4_K": [0, 2], "Q6_K": [208],
    "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108], "Q5_K": [0, 2], "IQ4_NL": [0],
}


def row(rng, name):
    kind = gguf.GGMLQuantizationType[name]
    if SCALES[name] is None:
        return gguf.quantize(rng.standard_normal(VALUES).astype(np.float32), kind).view(np.uint8)
    block_values, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (VALUES // block_values, block_bytes), dtype=np.uint8)
    for at in SCALES[name]:
        scales = rng.standard_normal(len(blocks)).astype(np.float16)
        blocks[:, at : at + 2] = scales.view(np.uint8).reshape(-1, 2)
    # A subnormal scale.
    blocks[0, SCALES[name][0] : SCALES[name][0] + 2] = np.array([3], np.uint16).view(np.uint8)
    return blocks.reshape(-1)


def main():
    rng = np.random.default_rng(5)
    for name in SCALES:
        data = row(rng, name)
        values = gguf.dequantize(data, gguf.GGMLQuantizationType[name]).astype("<f4").reshape(-1)
        path = pathlib.Path(__file__).with_name(name.lower() + ".bin")
        path.write_bytes(data.tobytes() + values.tobytes())


main()
