#include "worker/text/vocabulary_tokenizer.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "worker/text/utf8.h"

namespace berth::text {

absl::StatusOr<VocabularyTokenizer::Parts> VocabularyTokenizer::MakeParts(const TokenizerData& data) {
  BERTH_ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Make(data));
  BERTH_ASSIGN_OR_RETURN(Normalizer normalizer, Normalizer::Make(data.normalizer));
  std::vector<AddedToken> raw, normalized;
  for (const AddedToken& token : data.added_tokens) {
    (token.normalized ? normalized : raw).push_back(token);
    if (!token.normalized || normalizer.empty()) continue;
    BERTH_ASSIGN_OR_RETURN(std::string content, normalizer.Normalize(token.content));
    vocabulary.SetBytes(token.id, BytesOfPiece(content, data));
    normalized.back().content = std::move(content);
  }
  return Parts{.vocabulary = std::move(vocabulary),
               .normalizer = std::move(normalizer),
               .raw_tokens = AddedTokenMatcher(std::move(raw)),
               .normalized_tokens = AddedTokenMatcher(std::move(normalized)),
               .decoder = data.decoder,
               .prefix_ids = data.prefix_ids,
               .suffix_ids = data.suffix_ids,
               .bos_id = data.bos_id,
               .eos_id = data.eos_id};
}

absl::StatusOr<std::vector<int32_t>> VocabularyTokenizer::Encode(std::string_view text, const EncodeOptions& options) const {
  if (const size_t bad = FindInvalidUtf8(text); bad != std::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrFormat("the text is not UTF-8 at byte %d", bad));
  }
  std::vector<int32_t> ids;
  if (options.add_special) ids = parts_.prefix_ids;
  for (const AddedTokenMatcher::Segment& raw : parts_.raw_tokens.Split(text, options.parse_special)) {
    if (raw.id >= 0) {
      ids.push_back(raw.id);
      continue;
    }
    std::string normalized;
    std::string_view plain = raw.text;
    if (!parts_.normalizer.empty()) {
      BERTH_ASSIGN_OR_RETURN(normalized, parts_.normalizer.Normalize(raw.text));
      plain = normalized;
    }
    for (const AddedTokenMatcher::Segment& segment : parts_.normalized_tokens.Split(plain, options.parse_special)) {
      const bool at_start = raw.text.data() == text.data() && segment.text.data() == plain.data();
      if (segment.id >= 0) {
        ids.push_back(segment.id);
      } else {
        BERTH_RETURN_IF_ERROR(EncodeText(segment.text, at_start, ids));
      }
    }
  }
  if (options.add_special) ids.insert(ids.end(), parts_.suffix_ids.begin(), parts_.suffix_ids.end());
  return ids;
}

std::string_view VocabularyTokenizer::TokenBytes(int32_t id, bool include_special) const {
  if (!include_special && parts_.vocabulary.IsSpecial(id)) return {};
  return parts_.vocabulary.Bytes(id);
}

}  // namespace berth::text
