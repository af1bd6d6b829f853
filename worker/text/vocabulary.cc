#include "worker/text/vocabulary.h"

#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "worker/text/byte_spelling.h"
#include "worker/text/utf8.h"

namespace berth::text {
namespace {

constexpr int32_t kMostIds = 1 << 24;

}  // namespace

std::string BytesOfPiece(const std::string& piece, const TokenizerData& data) {
  if (data.byte_level) return BytesOfSpelling(piece).value_or(piece);
  if (!data.decoder.space.empty()) return absl::StrReplaceAll(piece, {{data.decoder.space, " "}});
  return piece;
}

absl::StatusOr<Vocabulary> Vocabulary::Make(const TokenizerData& data) {
  Vocabulary vocabulary;
  const auto set = [&](int32_t id, const std::string& piece, bool special) -> absl::Status {
    if (id < 0 || id >= kMostIds) return absl::InvalidArgumentError(absl::StrFormat("token id %d is out of range", id));
    if (FindInvalidUtf8(piece) != std::string_view::npos) {
      return absl::InvalidArgumentError(absl::StrFormat("token %d (\"%s\") is not UTF-8", id, absl::CHexEscape(piece)));
    }
    if (id >= vocabulary.size()) vocabulary.tokens_.resize(id + 1);
    Token& token = vocabulary.tokens_[id];
    const std::optional<unsigned char> byte = data.decoder.byte_tokens ? ByteOfToken(piece) : std::nullopt;
    token.byte = byte.has_value();
    token.bytes = byte ? std::string(1, static_cast<char>(*byte)) : BytesOfPiece(piece, data);
    token.special = special;
    vocabulary.ids_.insert_or_assign(piece, id);
    return absl::OkStatus();
  };
  vocabulary.tokens_.resize(data.pieces.size());
  for (size_t id = 0; id < data.pieces.size(); ++id) {
    if (data.pieces[id].empty()) continue;
    if (absl::Status status = set(static_cast<int32_t>(id), data.pieces[id], false); !status.ok()) return status;
  }
  for (const AddedToken& token : data.added_tokens) {
    if (absl::Status status = set(token.id, token.content, token.special); !status.ok()) return status;
  }
  return vocabulary;
}

int32_t Vocabulary::IdOf(std::string_view token) const {
  const auto found = ids_.find(token);
  return found == ids_.end() ? -1 : found->second;
}

}  // namespace berth::text
