#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "worker/text/added_tokens.h"
#include "worker/text/normalizer.h"
#include "worker/text/tokenizer.h"
#include "worker/text/vocabulary.h"

namespace berth::text {

// What all tokenizers made from TokenizerData share: added tokens, normalization, special ids, decoding. A subclass tokenizes
// the text between added tokens.
class VocabularyTokenizer : public Tokenizer {
 public:
  struct Parts {
    Vocabulary vocabulary;
    Normalizer normalizer;
    AddedTokenMatcher raw_tokens;
    AddedTokenMatcher normalized_tokens;
    DecoderRules decoder;
    std::vector<int32_t> prefix_ids;
    std::vector<int32_t> suffix_ids;
    int32_t bos_id;
    int32_t eos_id;
  };
  static absl::StatusOr<Parts> MakeParts(const TokenizerData& data);

  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text, const EncodeOptions& options) const final;
  std::string_view TokenBytes(int32_t id, bool include_special) const final;
  const DecoderRules& decoder_rules() const final { return parts_.decoder; }
  bool IsByteToken(int32_t id) const final { return parts_.vocabulary.IsByte(id); }
  bool IsSpecial(int32_t id) const final { return parts_.vocabulary.IsSpecial(id); }
  int32_t size() const final { return parts_.vocabulary.size(); }
  int32_t bos_id() const final { return parts_.bos_id; }
  int32_t eos_id() const final { return parts_.eos_id; }
  int32_t IdOf(std::string_view token) const final { return parts_.vocabulary.IdOf(token); }

 protected:
  explicit VocabularyTokenizer(Parts parts) : parts_(std::move(parts)) {}

 private:
  // Appends the ids of normalized text without added tokens. `at_start`: it is the start of the whole text.
  virtual absl::Status EncodeText(std::string_view text, bool at_start, std::vector<int32_t>& out) const = 0;

  const Parts parts_;
};

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeBpeTokenizer(const TokenizerData& data);
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeUnigramTokenizer(const TokenizerData& data);
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeSentencePieceTokenizer(TokenizerData data);

}  // namespace berth::text
