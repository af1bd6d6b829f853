#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace berth::testing {

// The tiny models that ToGguf knows, of every architecture that GGUF files are read of but internlm2. Of qwen3_moe it has the
// first layer only, as the second one has no experts, which that format does not know.
std::vector<std::string> GgufTwinNames();

// The tiny model as the ggml project's converter writes it: its keys, names, orders of rows and stacked experts, in f32. Its
// tokenizer has no use but to be there. `split_latent`: of latent attention as newer converters write it, attn_kv_b in two.
std::string ToGguf(std::string_view model, bool split_latent = false);

}  // namespace berth::testing
