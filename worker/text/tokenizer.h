#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/text/tokenizer_data.h"

namespace berth::text {

struct EncodeOptions {
  bool add_special = true;    // what the tokenizer itself puts around a text (beginning-of-sequence, …)
  bool parse_special = true;  // special tokens written in the text become their ids; otherwise they are plain text
};

// Text to token ids and back. Immutable and thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // INVALID_ARGUMENT when `text` is not UTF-8.
  virtual absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text, const EncodeOptions& options) const = 0;

  // The bytes of one token as they stand in the middle of a text; maybe half a UTF-8 character. Empty for ids outside the
  // vocabulary, and for special tokens (`include_special`: their content).
  virtual std::string_view TokenBytes(int32_t id, bool include_special) const = 0;

  // How tokens' bytes become text; StreamingDetokenizer follows them.
  virtual const DecoderRules& decoder_rules() const = 0;
  // The token stands for one byte, apart from its neighbours (<0xE4>). Never true in byte-level vocabularies.
  virtual bool IsByteToken(int32_t id) const = 0;

  // The whole decoding of `ids`, with what the tokenizer does at a text's start (dropping a leading space, …) and with U+FFFD
  // for broken UTF-8, as the original implementation decodes.
  std::string Decode(absl::Span<const int32_t> ids, bool skip_special) const;

  virtual bool IsSpecial(int32_t id) const = 0;
  virtual int32_t size() const = 0;                        // ids are 0 … size() - 1
  virtual int32_t bos_id() const = 0;                      // -1: none
  virtual int32_t eos_id() const = 0;                      // -1: none
  virtual int32_t IdOf(std::string_view token) const = 0;  // -1: none; `token` as in the vocabulary or an added token's content
};

// INVALID_ARGUMENT names the construct that is not supported or not consistent.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(TokenizerData data);

}  // namespace berth::text
