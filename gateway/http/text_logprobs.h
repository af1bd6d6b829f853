#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "nlohmann/json.hpp"
#include "proto/berth/v1/generation.pb.h"

namespace berth::http {

// How far the tokens that were told reach into a choice's text.
struct TextPlace {
  bool begun = false;
  size_t bytes = 0;  // of the prompt
  int64_t characters = 0;
};

// Of UTF-8.
int64_t CountCharacters(std::string_view text);

// The log-probabilities of a text completion's tokens, in the order in which they are added.
class TextLogprobs {
 public:
  using Tokens = google::protobuf::RepeatedPtrField<v1::TokenLogprob>;

  // The next tokens of a prompt whose text is `echo`. Special tokens are at their place in it, but not in it.
  void AddPrompt(const Tokens& tokens, const std::string& echo, TextPlace& place);
  void AddOutput(const Tokens& tokens, TextPlace& place);
  // Null: there are none.
  nlohmann::ordered_json Take();

 private:
  void Add(const v1::TokenLogprob& token, int64_t offset, bool first);

  nlohmann::ordered_json tokens_ = nlohmann::ordered_json::array(), values_ = tokens_, top_ = tokens_, offsets_ = tokens_;
};

}  // namespace berth::http
