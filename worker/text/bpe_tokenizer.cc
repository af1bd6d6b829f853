#include <memory>
#include <utility>

#include "base/status.h"
#include "worker/text/bpe.h"
#include "worker/text/pre_tokenizer.h"
#include "worker/text/vocabulary_tokenizer.h"

namespace berth::text {
namespace {

class BpeTokenizer final : public VocabularyTokenizer {
 public:
  BpeTokenizer(Parts parts, PreTokenizer pre_tokenizer, Bpe bpe)
      : VocabularyTokenizer(std::move(parts)), pre_tokenizer_(std::move(pre_tokenizer)), bpe_(std::move(bpe)) {}

 private:
  absl::Status EncodeText(std::string_view text, bool at_start, std::vector<int32_t>& out) const override {
    BERTH_ASSIGN_OR_RETURN(const Words words, pre_tokenizer_.Split(text, at_start));
    for (std::string_view word : words.words) bpe_.Encode(word, out);
    return absl::OkStatus();
  }

  const PreTokenizer pre_tokenizer_;
  const Bpe bpe_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeBpeTokenizer(const TokenizerData& data) {
  BERTH_ASSIGN_OR_RETURN(VocabularyTokenizer::Parts parts, VocabularyTokenizer::MakeParts(data));
  BERTH_ASSIGN_OR_RETURN(PreTokenizer pre_tokenizer, PreTokenizer::Make(data.pre_tokenizer));
  BERTH_ASSIGN_OR_RETURN(Bpe bpe, Bpe::Make(data));
  return std::make_unique<BpeTokenizer>(std::move(parts), std::move(pre_tokenizer), std::move(bpe));
}

}  // namespace berth::text
