#include "worker/service/sim_model.h"

#include <array>

#include "absl/strings/str_cat.h"
#include "base/hash.h"

namespace berth::service {
namespace {

using Ids = SimVocabularyIds;

class SimTokenizer : public text::Tokenizer {
 public:
  SimTokenizer() {
    for (int i = 0; i < 256; ++i) bytes_[i] = std::string(1, static_cast<char>(i));
    static constexpr std::array<const char*, 16> kPieces = {" the", " sea", " ship",    "ST",   "OP", "EN",   "D",  ".\n",
                                                            "\xc3", "\xa4", "\xe6\xb8", "\xaf", " ü", " мир", "港", "🚢"};
    for (int i = 0; i < 256; ++i) {
      pieces_[i] = i < static_cast<int>(kPieces.size()) * 8 ? kPieces[i / 8] : absl::StrCat(" w", i);
    }
  }

  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text, const text::EncodeOptions& options) const override {
    std::vector<int32_t> ids;
    ids.reserve(text.size());
    for (size_t i = 0; i < text.size(); ++i) {
      if (options.parse_special && text.substr(i).starts_with(kMessageText)) {
        ids.push_back(Ids::kMessage);
        i += kMessageText.size() - 1;
      } else if (options.parse_special && text.substr(i).starts_with(kEosText)) {
        ids.push_back(Ids::kEos);
        i += kEosText.size() - 1;
      } else {
        ids.push_back(Ids::kFirstByte + static_cast<unsigned char>(text[i]));
      }
    }
    return ids;
  }

  std::string_view TokenBytes(int32_t id, bool include_special) const override {
    if (id == Ids::kEos) return include_special ? kEosText : "";
    if (id == Ids::kMessage) return include_special ? kMessageText : "";
    if (id >= Ids::kFirstByte && id < Ids::kFirstPiece) return bytes_[id - Ids::kFirstByte];
    if (id >= Ids::kFirstPiece && id < Ids::kEnd) return pieces_[id - Ids::kFirstPiece];
    return "";
  }

  const text::DecoderRules& decoder_rules() const override { return rules_; }
  bool IsByteToken(int32_t) const override { return false; }
  bool IsSpecial(int32_t id) const override { return id == Ids::kEos || id == Ids::kMessage; }
  int32_t size() const override { return Ids::kEnd; }
  int32_t bos_id() const override { return -1; }
  int32_t eos_id() const override { return Ids::kEos; }
  int32_t IdOf(std::string_view token) const override {
    if (token == kEosText) return Ids::kEos;
    return token == kMessageText ? Ids::kMessage : -1;
  }

 private:
  static constexpr std::string_view kEosText = "<eos>";
  static constexpr std::string_view kMessageText = "<msg>";

  std::array<std::string, 256> bytes_, pieces_;
  text::DecoderRules rules_;
};

// "<msg>role\ncontent<eos>" per message, then "<msg>assistant\n".
class SimTemplate : public text::ChatTemplate {
 public:
  absl::StatusOr<std::string> Render(const std::vector<text::ChatMessage>& messages,
                                     const text::RenderOptions& options) const override {
    std::string out;
    for (const text::ChatMessage& message : messages) {
      if (message.role != "system" && message.role != "user" && message.role != "assistant") {
        return absl::InvalidArgumentError(absl::StrCat("unknown role \"", message.role, "\""));
      }
      absl::StrAppend(&out, "<msg>", message.role, "\n", message.content, "<eos>");
    }
    if (options.add_generation_prompt) absl::StrAppend(&out, "<msg>assistant\n");
    return out;
  }
};

}  // namespace

ServedModel MakeSimModel(const std::string& name, int context_length) {
  return ServedModel{.name = name,
                     .family = "simulated",
                     .tokenizer = std::make_unique<SimTokenizer>(),
                     .chat_template = std::make_unique<SimTemplate>(),
                     .eos_ids = {Ids::kEos},
                     .context_length = context_length,
                     .fingerprint = base::Hash64(name, static_cast<uint64_t>(context_length))};
}

}  // namespace berth::service
