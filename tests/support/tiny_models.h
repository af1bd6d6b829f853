#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/safetensors_writer.h"
#include "worker/loader/checkpoint.h"

namespace berth::testing {

// Tiny random models with transformers' fp32 logits, from tests/golden/models/tiny (made by make_logits.py there). All paths
// are relative to the repository root, the working directory of every test.

// One or more of each family: "llama", "llama3" (rope scaling, biases), "mistral" (window), …
std::vector<std::string> TinyModelNames();

// The weights of a tensor: a function of its name and the elements' indices, the same as make_logits.py computes.
std::vector<float> TinyWeights(std::string_view name, int64_t elements);

// The model's checkpoint.
std::vector<StoredTensor> TinyCheckpoint(std::string_view model);

// Writes a Hugging Face directory with that model: config.json, model.safetensors and tokenizer.json.
void WriteTinyModel(std::string_view model, const std::string& directory);
void WriteTinyModel(std::string_view model, const std::vector<StoredTensor>& checkpoint, const std::string& directory);

// The prompts that logits are stored for, and the rows of logits at some of their positions.
struct GoldenPrompt {
  std::vector<int32_t> tokens;
  std::vector<int> image_positions;  // of xcomposer2; none of the others
  std::vector<int> positions;
  std::vector<std::vector<float>> logits;  // one for each of `positions`
};
std::vector<GoldenPrompt> TinyGolden(std::string_view model);

// Parses lines "name TYPE 8x4": tests/golden/models has such lists. "[0-7]" in a name stands for each of these
// numbers. Data is empty.
loader::CheckpointIndex ReadTensorList(const std::string& path);

}  // namespace berth::testing
