#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "worker/service/grammar_store.h"
#include "worker/text/chat_template.h"
#include "worker/text/infill.h"
#include "worker/text/output_format.h"
#include "worker/text/tokenizer.h"

namespace berth::service {

// Sampling of requests that say nothing (generation_config.json).
struct SamplingDefaults {
  float temperature = 1;
  float top_p = 1;
  int32_t top_k = 0;
  float repetition_penalty = 1;
};

// All that the services know of the model; the wiring fills it. Immutable and shared by threads.
struct ServedModel {
  std::string name;
  std::string family;
  std::unique_ptr<const text::Tokenizer> tokenizer;
  std::unique_ptr<const text::ChatTemplate> chat_template;  // null: none
  std::unique_ptr<GrammarStore> grammars;
  text::OutputFormat output_format;
  std::vector<int32_t> eos_ids;
  SamplingDefaults defaults;
  int context_length = 0;         // tokens of prompt and output together
  std::vector<int> rope_lengths;  // rising; prompts longer than n of them rotate by variant n, and share no cache with others
  uint64_t fingerprint = 0;
  std::optional<text::InfillFormat> infill;  // nothing: not taught to fill in

  int rope_variant(int prompt_tokens) const {
    return static_cast<int>(std::lower_bound(rope_lengths.begin(), rope_lengths.end(), prompt_tokens) - rope_lengths.begin());
  }
};

}  // namespace berth::service
