#include "worker/text/sentencepiece_model.h"

#include <sentencepiece_processor.h>

namespace berth::text {

SentencePieceModel::SentencePieceModel() : processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()) {}
SentencePieceModel::~SentencePieceModel() = default;

std::unique_ptr<SentencePieceModel> SentencePieceModel::Load(std::string_view serialized, std::string& error) {
  std::unique_ptr<SentencePieceModel> model(new SentencePieceModel);
  const auto status = model->processor_->LoadFromSerializedProto(serialized);
  if (status.ok()) return model;
  error = status.ToString();
  return nullptr;
}

std::string SentencePieceModel::Encode(std::string_view text, std::vector<int32_t>& out) const {
  std::vector<int> ids;
  const auto status = processor_->Encode(text, &ids);
  out.insert(out.end(), ids.begin(), ids.end());
  return status.ok() ? "" : status.ToString();
}

int32_t SentencePieceModel::size() const { return processor_->GetPieceSize(); }
std::string SentencePieceModel::Piece(int32_t id) const { return processor_->IdToPiece(id); }
bool SentencePieceModel::IsControl(int32_t id) const { return processor_->IsControl(id); }
int32_t SentencePieceModel::unknown_id() const { return processor_->unk_id(); }
int32_t SentencePieceModel::bos_id() const { return processor_->bos_id(); }
int32_t SentencePieceModel::eos_id() const { return processor_->eos_id(); }

int32_t SentencePieceModel::SpacesDroppedAtStart() const {
  constexpr int kProbe = 8;
  const int space = processor_->PieceToId("\xE2\x96\x81");
  if (processor_->IsUnknown(space)) return 1;
  return kProbe - static_cast<int32_t>(processor_->DecodeIds(std::vector<int>(kProbe, space)).size());
}

}  // namespace berth::text
