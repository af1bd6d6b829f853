#include "gateway/http/text_logprobs.h"

#include <utility>

namespace berth::http {

using json = nlohmann::ordered_json;

int64_t CountCharacters(std::string_view text) {
  int64_t count = 0;
  for (const unsigned char byte : text) count += (byte & 0xC0) != 0x80;
  return count;
}

void TextLogprobs::AddPrompt(const Tokens& tokens, const std::string& echo, TextPlace& place) {
  for (const v1::TokenLogprob& token : tokens) {
    Add(token, place.characters, !std::exchange(place.begun, true));
    std::string_view text = token.token();
    const std::string_view rest = std::string_view(echo).substr(place.bytes);
    // Some tokenizers put a blank before the first word.
    if (place.bytes == 0 && !rest.starts_with(text) && text.starts_with(' ')) text.remove_prefix(1);
    if (!rest.starts_with(text)) continue;
    place.bytes += text.size();
    place.characters += CountCharacters(text);
  }
}

void TextLogprobs::AddOutput(const Tokens& tokens, TextPlace& place) {
  for (const v1::TokenLogprob& token : tokens) {
    Add(token, place.characters, /*first=*/false);
    place.characters += CountCharacters(token.token());
  }
}

json TextLogprobs::Take() {
  if (tokens_.empty()) return nullptr;
  return {{"tokens", std::move(tokens_)},
          {"token_logprobs", std::move(values_)},
          {"top_logprobs", std::move(top_)},
          {"text_offset", std::move(offsets_)}};
}

// Before the first token there is nothing that could give it a probability.
void TextLogprobs::Add(const v1::TokenLogprob& token, int64_t offset, bool first) {
  json alternatives = json::object();
  for (const auto& other : token.alternatives()) alternatives[other.token()] = other.logprob();
  tokens_.push_back(token.token());
  values_.push_back(first ? json(nullptr) : json(token.logprob()));
  top_.push_back(first ? json(nullptr) : std::move(alternatives));
  offsets_.push_back(offset);
}

}  // namespace berth::http
