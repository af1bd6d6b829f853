#include "worker/loader/gguf_tokenizer.h"

#include <algorithm>
#include <functional>
#include <map>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "worker/loader/gguf_pre_tokenizers.h"
#include "worker/text/string_map.h"
#include "worker/text/utf8.h"

namespace berth::loader {
namespace {

using text::DecoderRules;
using text::NormalizerStep;
using text::TokenizerData;

constexpr char kSpace[] = "\xE2\x96\x81";  // U+2581

enum TokenType : int32_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

absl::StatusOr<text::StringToId> IndexPieces(const std::vector<std::string>& pieces) {
  text::StringToId ids;
  ids.reserve(pieces.size());
  for (size_t id = 0; id < pieces.size(); ++id) {
    if (text::FindInvalidUtf8(pieces[id]) != std::string::npos) {
      return absl::InvalidArgumentError(absl::StrFormat("tokenizer.ggml.tokens[%d] is not UTF-8", id));
    }
    ids.emplace(pieces[id], static_cast<int32_t>(id));
  }
  return ids;
}

absl::StatusOr<int32_t> TokenId(const char* key, std::optional<uint32_t> id, size_t vocabulary) {
  if (!id) return -1;
  if (*id >= vocabulary) {
    return absl::InvalidArgumentError(
        absl::StrFormat("tokenizer.ggml.%s is %d, but there are %d tokens", key, *id, vocabulary));
  }
  return static_cast<int32_t>(*id);
}

absl::Status ParseMerges(const std::vector<std::string>& merges, const text::StringToId& ids, TokenizerData& data) {
  data.merges.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string_view merge = merges[rank];
    const size_t space = merge.find(' ', 1);
    const auto id_of = [&](std::string_view piece) {
      const auto found = ids.find(piece);
      return found == ids.end() ? -1 : found->second;
    };
    if (space == std::string_view::npos) {
      return absl::InvalidArgumentError(absl::StrFormat("tokenizer.ggml.merges[%d] is \"%s\", want two pieces", rank, merge));
    }
    const std::string_view left = merge.substr(0, space);
    const std::string_view right = merge.substr(space + 1);
    const text::Merge parsed{id_of(left), id_of(right), id_of(std::string(left).append(right)), static_cast<int32_t>(rank)};
    if (parsed.left < 0 || parsed.right < 0 || parsed.result < 0) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "tokenizer.ggml.merges[%d] is \"%s\", which names a piece that is not in the vocabulary", rank, merge));
    }
    data.merges.push_back(parsed);
  }
  return absl::OkStatus();
}

// SentencePiece merges the neighbours whose joint piece has the highest score: every way to cut a piece in two is a merge,
// ranked by the score of the whole.
void MergesFromScores(const GgufTokenizerMetadata& metadata, const text::StringToId& ids, TokenizerData& data) {
  std::map<float, int32_t, std::greater<>> rank_of_score;
  for (float score : metadata.scores) rank_of_score.emplace(score, 0);
  int32_t next_rank = 0;
  for (auto& [score, rank] : rank_of_score) rank = next_rank++;

  const auto normal_id = [&](std::string_view piece) {
    const auto found = ids.find(piece);
    return found == ids.end() || metadata.token_type[found->second] != kNormal ? -1 : found->second;
  };
  for (size_t id = 0; id < metadata.tokens.size(); ++id) {
    if (metadata.token_type[id] != kNormal) continue;
    const std::string_view piece = metadata.tokens[id];
    const int32_t rank = rank_of_score.at(metadata.scores[id]);
    for (size_t cut = 0; cut < piece.size();) {
      cut += text::FirstUtf8Char(piece.substr(cut)).size;
      const int32_t left = normal_id(piece.substr(0, cut));
      const int32_t right = normal_id(piece.substr(cut));
      if (left >= 0 && right >= 0) data.merges.push_back({left, right, static_cast<int32_t>(id), rank});
    }
  }
}

absl::Status FillByteLevel(const GgufTokenizerMetadata& metadata, const text::StringToId& ids, TokenizerData& data) {
  BERTH_ASSIGN_OR_RETURN(const GgufPreTokenizer pre, FindGgufPreTokenizer(metadata.pre));
  BERTH_RETURN_IF_ERROR(ParseMerges(metadata.merges, ids, data));
  data.byte_level = true;
  data.ignore_merges = pre.ignore_merges;
  if (pre.nfc) data.normalizer.push_back({.kind = NormalizerStep::Kind::kNfc});
  for (const char* expression : pre.expressions) {
    data.pre_tokenizer.push_back({.pattern = {.text = expression, .is_regex = true}});
  }
  if (metadata.add_bos_token.value_or(pre.add_bos) && data.bos_id >= 0) data.prefix_ids = {data.bos_id};
  if (metadata.add_eos_token.value_or(false) && data.eos_id >= 0) data.suffix_ids = {data.eos_id};
  return absl::OkStatus();
}

absl::Status FillSentencePiece(const GgufTokenizerMetadata& metadata, const text::StringToId& ids, TokenizerData& data) {
  if (metadata.scores.size() != metadata.tokens.size()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("tokenizer.ggml.scores has %d entries for %d tokens", metadata.scores.size(), metadata.tokens.size()));
  }
  if (std::any_of(metadata.scores.begin(), metadata.scores.end(), [](float score) { return score != score; })) {
    return absl::InvalidArgumentError("tokenizer.ggml.scores has a NaN");
  }
  MergesFromScores(metadata, ids, data);
  const bool prefix = metadata.add_space_prefix.value_or(true);
  if (prefix) data.normalizer.push_back({.kind = NormalizerStep::Kind::kPrepend, .content = kSpace});
  data.normalizer.push_back({.kind = NormalizerStep::Kind::kReplace, .pattern = {.text = " "}, .content = kSpace});
  data.byte_fallback = true;
  data.fuse_unknown = true;
  BERTH_ASSIGN_OR_RETURN(data.unknown_id, TokenId("unknown_token_id", metadata.unknown_token_id, metadata.tokens.size()));
  data.decoder = {.broken = DecoderRules::BrokenBytes::kPerByte,
                  .byte_tokens = true,
                  .space = kSpace,
                  .strip_start_spaces = prefix ? 1 : 0,
                  .keep_byte_spaces = true};
  if (metadata.add_bos_token.value_or(true) && data.bos_id >= 0) data.prefix_ids = {data.bos_id};
  if (metadata.add_eos_token.value_or(false) && data.eos_id >= 0) data.suffix_ids = {data.eos_id};
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerData> ParseGgufTokenizer(GgufTokenizerMetadata metadata) {
  const size_t size = metadata.tokens.size();
  if (size == 0) return absl::InvalidArgumentError("tokenizer.ggml.tokens is empty");
  if (metadata.token_type.empty()) metadata.token_type.assign(size, kNormal);
  if (metadata.token_type.size() != size) {
    return absl::InvalidArgumentError(
        absl::StrFormat("tokenizer.ggml.token_type has %d entries for %d tokens", metadata.token_type.size(), size));
  }
  BERTH_ASSIGN_OR_RETURN(const text::StringToId ids, IndexPieces(metadata.tokens));

  TokenizerData data;
  BERTH_ASSIGN_OR_RETURN(data.bos_id, TokenId("bos_token_id", metadata.bos_token_id, size));
  BERTH_ASSIGN_OR_RETURN(data.eos_id, TokenId("eos_token_id", metadata.eos_token_id, size));
  BERTH_ASSIGN_OR_RETURN(const int32_t eot_id, TokenId("eot_token_id", metadata.eot_token_id, size));
  if (data.eos_id >= 0) data.generation_eos_ids.push_back(data.eos_id);
  if (eot_id >= 0 && eot_id != data.eos_id) data.generation_eos_ids.push_back(eot_id);
  for (size_t id = 0; id < size; ++id) {
    const int32_t type = metadata.token_type[id];
    if (type != kControl && type != kUserDefined) continue;
    data.added_tokens.push_back({.id = static_cast<int32_t>(id), .content = metadata.tokens[id], .special = type == kControl});
  }
  if (metadata.model == "gpt2") {
    BERTH_RETURN_IF_ERROR(FillByteLevel(metadata, ids, data));
  } else if (metadata.model == "llama") {
    BERTH_RETURN_IF_ERROR(FillSentencePiece(metadata, ids, data));
  } else {
    return absl::InvalidArgumentError(
        absl::StrFormat("tokenizer.ggml.model is \"%s\", want \"gpt2\" or \"llama\"", metadata.model));
  }
  data.pieces = std::move(metadata.tokens);
  data.chat_template = std::move(metadata.chat_template);
  return data;
}

}  // namespace berth::loader
