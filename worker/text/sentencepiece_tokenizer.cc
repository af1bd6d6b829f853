#include <algorithm>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "worker/text/sentencepiece_model.h"
#include "worker/text/vocabulary_tokenizer.h"

namespace berth::text {
namespace {

constexpr char kSpace[] = "\xE2\x96\x81";          // U+2581
constexpr char kUnknownText[] = " \xE2\x81\x87 ";  // what SentencePiece decodes the unknown piece to
// A ModelProto with normalizer_spec.add_dummy_prefix = false; appended to another one it overrides that field.
constexpr char kNoDummyPrefix[] = {0x1A, 0x02, 0x18, 0x00};

absl::StatusOr<std::unique_ptr<SentencePieceModel>> Load(std::string_view serialized) {
  std::string error;
  std::unique_ptr<SentencePieceModel> model = SentencePieceModel::Load(serialized, error);
  if (model == nullptr) return absl::InvalidArgumentError(absl::StrCat("the SentencePiece model does not load: ", error));
  return model;
}

class SentencePieceTokenizer final : public VocabularyTokenizer {
 public:
  // `inner`: for text that is not at the start; null: the same as at the start.
  SentencePieceTokenizer(Parts parts, std::unique_ptr<SentencePieceModel> model, std::unique_ptr<SentencePieceModel> inner)
      : VocabularyTokenizer(std::move(parts)), model_(std::move(model)), inner_(std::move(inner)) {}

 private:
  absl::Status EncodeText(std::string_view text, bool at_start, std::vector<int32_t>& out) const override {
    const SentencePieceModel& model = at_start || inner_ == nullptr ? *model_ : *inner_;
    const std::string error = model.Encode(text, out);
    return error.empty() ? absl::OkStatus() : absl::InvalidArgumentError(absl::StrCat("SentencePiece: ", error));
  }

  const std::unique_ptr<SentencePieceModel> model_;
  const std::unique_ptr<SentencePieceModel> inner_;
};

// Pieces and control tokens are the model's; tokens declared in `data` come on top.
void TakeVocabulary(const SentencePieceModel& model, TokenizerData& data) {
  data.pieces.clear();
  const auto declared = [&](int32_t id) {
    return std::any_of(data.added_tokens.begin(), data.added_tokens.end(),
                       [&](const AddedToken& token) { return token.id == id; });
  };
  for (int32_t id = 0; id < model.size(); ++id) {
    data.pieces.push_back(model.Piece(id));
    if (model.IsControl(id) && !declared(id)) {
      data.added_tokens.push_back({.id = id, .content = data.pieces.back(), .special = true});
    }
  }
  for (const std::string& content : data.appended_tokens) {
    const auto id = static_cast<int32_t>(data.pieces.size());
    data.pieces.push_back(content);
    if (!declared(id)) data.added_tokens.push_back({.id = id, .content = content, .special = true});
  }
  if (data.bos_id < 0) data.bos_id = model.bos_id();
  if (data.eos_id < 0) data.eos_id = model.eos_id();
  if (data.add_bos && data.bos_id >= 0) data.prefix_ids = {data.bos_id};
  for (const std::string& content : data.prefix_tokens) {
    const auto found = std::find(data.pieces.begin(), data.pieces.end(), content);
    if (found != data.pieces.end()) data.prefix_ids.push_back(static_cast<int32_t>(found - data.pieces.begin()));
  }
  if (data.add_eos && data.eos_id >= 0) data.suffix_ids = {data.eos_id};
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeSentencePieceTokenizer(TokenizerData data) {
  BERTH_ASSIGN_OR_RETURN(std::unique_ptr<SentencePieceModel> model, Load(data.sentencepiece_model));
  std::unique_ptr<SentencePieceModel> inner;
  if (data.prefix_first_only) {
    std::string serialized = data.sentencepiece_model;
    serialized.append(kNoDummyPrefix, sizeof kNoDummyPrefix);
    BERTH_ASSIGN_OR_RETURN(inner, Load(serialized));
  }
  TakeVocabulary(*model, data);
  data.decoder = {.broken = DecoderRules::BrokenBytes::kPerByte,
                  .byte_tokens = true,
                  .space = kSpace,
                  .strip_start_spaces = model->SpacesDroppedAtStart(),
                  .keep_byte_spaces = true,
                  .keep_spaces_of = model->unknown_id()};
  BERTH_ASSIGN_OR_RETURN(VocabularyTokenizer::Parts parts, VocabularyTokenizer::MakeParts(data));
  if (model->unknown_id() >= 0) parts.vocabulary.SetBytes(model->unknown_id(), kUnknownText);
  return std::make_unique<SentencePieceTokenizer>(std::move(parts), std::move(model), std::move(inner));
}

}  // namespace berth::text
