#include "tests/support/tiny_models.h"

#include <cstring>
#include <sstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/check.h"
#include "tests/support/files.h"

namespace berth::testing {
namespace {

using kernels::DType;

constexpr char kTiny[] = "tests/golden/models/tiny/";
constexpr int kVocab = 288;

struct Prompt {
  int length;
  std::vector<int> positions;
};
const Prompt kPrompts[] = {{1, {0}}, {9, {0, 1, 2, 3, 4, 5, 6, 7, 8}}, {70, {23, 47, 69}}};

std::string FileOf(std::string_view model, const char* name) { return kTiny + std::string(model) + "/" + name; }

// SplitMix64's output function, of a state that starts at FNV-1a of the name.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

uint64_t Fnv1a(std::string_view text) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const unsigned char c : text) hash = (hash ^ c) * 0x100000001B3u;
  return hash;
}

// "a.[0-2].b" names a.0.b, a.1.b and a.2.b; so do further ranges behind the first.
std::vector<std::string> ExpandRanges(const std::string& name) {
  const size_t begin = name.find('['), dash = name.find('-', begin), end = name.find(']', begin);
  if (begin == std::string::npos) return {name};
  int first = 0, last = 0;
  BERTH_CHECK(absl::SimpleAtoi(name.substr(begin + 1, dash - begin - 1), &first)) << name;
  BERTH_CHECK(absl::SimpleAtoi(name.substr(dash + 1, end - dash - 1), &last)) << name;
  std::vector<std::string> names;
  for (int i = first; i <= last; ++i) {
    for (std::string& one : ExpandRanges(absl::StrCat(name.substr(0, begin), i, name.substr(end + 1)))) {
      names.push_back(std::move(one));
    }
  }
  return names;
}

// Whether the tensor's module is called a norm.
bool IsNorm(std::string_view name) {
  if (name.ends_with(".weight")) name.remove_suffix(std::string_view(".weight").size());
  const std::string_view module = name.substr(name.rfind('.') + 1);
  return module.find("norm") != std::string_view::npos || module.starts_with("ln_");
}

}  // namespace

std::vector<std::string> TinyModelNames() {
  return {
      "llama",        "llama3",      "mistral",          "internlm",    "internlm2", "qwen",          "qwen2",     "qwen3",
      "gemma",        "gemma2",      "gemma3",           "phi3",        "phi3_long", "llama_dynamic", "chatglm",   "glm4",
      "granite",      "baichuan",    "falcon",           "falcon_40b",  "falcon_rw", "mixtral",       "qwen2_moe", "qwen3_moe",
      "deepseek_moe", "deepseek_v2", "deepseek_v2_lite", "deepseek_v3", "dbrx",      "baichuan_13b",  "xcomposer2"};
}

std::vector<float> TinyWeights(std::string_view name, int64_t elements) {
  const uint64_t seed = Fnv1a(name);
  const bool bias = name.ends_with("bias");
  const bool norm = IsNorm(name);
  std::vector<float> values(elements);
  for (int64_t i = 0; i < elements; ++i) {
    const uint64_t bits = Mix(seed + static_cast<uint64_t>(i) * 0x9E3779B97F4A7C15u);
    const double n = (static_cast<double>(bits >> 40) / 8388608.0 - 1.0) * 1.7320508075688772;
    values[i] = static_cast<float>(bias ? 0.2 * n : norm ? 1.0 + 0.2 * n : 0.3 * n);
  }
  return values;
}

std::vector<StoredTensor> TinyCheckpoint(std::string_view model) {
  std::vector<StoredTensor> tensors;
  for (const loader::TensorInfo& info : ReadTensorList(FileOf(model, "tensors.txt"))) {
    int64_t elements = 1;
    for (const int64_t dimension : info.shape) elements *= dimension;
    tensors.push_back(StoreFloats(info.name, info.shape, TinyWeights(info.name, elements)));
  }
  return tensors;
}

void WriteTinyModel(std::string_view model, const std::string& directory) {
  WriteTinyModel(model, TinyCheckpoint(model), directory);
}

void WriteTinyModel(std::string_view model, const std::vector<StoredTensor>& checkpoint, const std::string& directory) {
  WriteFile(directory + "/config.json", ReadFile(FileOf(model, "config.json")));
  WriteFile(directory + "/tokenizer.json", ReadFile(kTiny + std::string("tokenizer.json")));
  WriteFile(directory + "/model.safetensors", SafetensorsFile(checkpoint));
}

std::vector<GoldenPrompt> TinyGolden(std::string_view model) {
  const std::string bytes = ReadFile(FileOf(model, "logits.f32"));
  size_t offset = 0;
  std::vector<GoldenPrompt> prompts;
  for (const Prompt& stored : kPrompts) {
    GoldenPrompt& prompt = prompts.emplace_back();
    const int i = static_cast<int>(prompts.size()) - 1;
    for (int p = 0; p < stored.length; ++p) prompt.tokens.push_back((p * p * 7 + p * 13 + i * 29) % kVocab);
    if (model == "xcomposer2") {
      for (int p = 0; p < stored.length; ++p) {
        if (p % 8 >= 5) prompt.image_positions.push_back(p);
      }
    }
    prompt.positions = stored.positions;
    prompt.logits.assign(stored.positions.size(), std::vector<float>(kVocab));
    for (std::vector<float>& row : prompt.logits) {
      BERTH_CHECK(offset + kVocab * sizeof(float) <= bytes.size()) << model;
      std::memcpy(row.data(), bytes.data() + offset, kVocab * sizeof(float));
      offset += kVocab * sizeof(float);
    }
  }
  BERTH_CHECK(offset == bytes.size()) << model;
  return prompts;
}

loader::CheckpointIndex ReadTensorList(const std::string& path) {
  loader::CheckpointIndex index;
  std::istringstream lines(ReadFile(path));
  std::string name, type, shape;
  while (lines >> name >> type >> shape) {
    loader::TensorInfo info;
    info.dtype = type == "F32" ? DType::kF32 : type == "F16" ? DType::kF16 : DType::kBF16;
    for (const absl::string_view dimension : absl::StrSplit(shape, 'x')) {
      BERTH_CHECK(absl::SimpleAtoi(dimension, &info.shape.emplace_back())) << path << ": " << name << " " << shape;
    }
    for (std::string& one : ExpandRanges(name)) {
      info.name = std::move(one);
      index.push_back(info);
    }
  }
  return index;
}

}  // namespace berth::testing
