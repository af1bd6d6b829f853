#pragma once

#include <string>
#include <vector>

#include "kernels/dtype.h"
#include "tests/support/gguf_writer.h"
#include "tests/support/safetensors_writer.h"

namespace berth::testing {

// The same model twice: as a GGUF file whose matrices have a quantised type, and as a Hugging Face checkpoint in f32.
struct TinyGguf {
  GgufWriter writer;                     // more may be set before it is written
  std::vector<StoredTensor> checkpoint;  // fits tests/golden/models/tiny/llama/config.json
};

// A llama of the shapes of the tiny model "llama", in GGUF's names and order of q and k rows. `dtype`: one with blocks of 32.
// `tied`: without an output matrix; then the checkpoint does not fit that configuration.
TinyGguf MakeTinyGguf(kernels::DType dtype, bool tied = false);

}  // namespace berth::testing
