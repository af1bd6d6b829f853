#include "worker/text/tokenizer.h"

#include <utility>

#include "worker/text/detokenizer.h"
#include "worker/text/vocabulary_tokenizer.h"

namespace berth::text {

std::string Tokenizer::Decode(absl::Span<const int32_t> ids, bool skip_special) const {
  StreamingDetokenizer detokenizer(*this, skip_special, {});
  std::string text = detokenizer.Append(ids);
  text.append(detokenizer.Finish());
  return text;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeTokenizer(TokenizerData data) {
  if (data.model == TokenizerData::Model::kSentencePiece) return MakeSentencePieceTokenizer(std::move(data));
  if (data.model == TokenizerData::Model::kUnigram) return MakeUnigramTokenizer(data);
  return MakeBpeTokenizer(data);
}

}  // namespace berth::text
