#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/text/tokenizer_data.h"

namespace berth::loader {

// The tokenizer.* keys of a GGUF file, with the key's last part as name.
struct GgufTokenizerMetadata {
  std::string model;                // "gpt2": byte-level BPE; "llama": SentencePiece BPE by scores
  std::string pre;                  // how "gpt2" cuts words; empty: "default"
  std::vector<std::string> tokens;  // by id
  std::vector<std::string> merges;  // "left right", the strongest first; "gpt2" only
  std::vector<int32_t> token_type;  // by id: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
  std::vector<float> scores;        // by id; "llama" only
  std::optional<uint32_t> bos_token_id;
  std::optional<uint32_t> eos_token_id;
  std::optional<uint32_t> eot_token_id;
  std::optional<uint32_t> unknown_token_id;
  std::optional<bool> add_bos_token;
  std::optional<bool> add_eos_token;
  std::optional<bool> add_space_prefix;
  std::string chat_template;
};

// INVALID_ARGUMENT names the key and the value that is wrong or not supported.
absl::StatusOr<text::TokenizerData> ParseGgufTokenizer(GgufTokenizerMetadata metadata);

}  // namespace berth::loader
