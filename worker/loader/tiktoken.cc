#include "worker/loader/tiktoken.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "worker/loader/tokenizer_config.h"
#include "worker/text/byte_spelling.h"
#include "worker/text/string_map.h"

namespace berth::loader {
namespace {

using text::NormalizerStep;
using text::TokenizerData;

constexpr int32_t kMostRanks = 1 << 24;
constexpr size_t kLongestToken = 1024;
// Of both classes, but for the numbers.
constexpr char kWords[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr int kQwenExtraTokens = 205;

absl::StatusOr<std::vector<std::string>> ParseRanks(std::string_view text) {
  std::vector<std::string> tokens;
  int line = 0;
  while (!text.empty()) {
    ++line;
    const std::string entry(text.substr(0, text.find('\n')));
    text.remove_prefix(std::min(text.size(), entry.size() + 1));
    if (entry.empty()) continue;
    const size_t space = entry.find(' ');
    std::string token;
    int32_t rank = -1;
    if (space == std::string::npos || !absl::Base64Unescape(entry.substr(0, space), &token) ||
        !absl::SimpleAtoi(entry.substr(space + 1), &rank) || token.empty() || token.size() > kLongestToken || rank < 0 ||
        rank >= kMostRanks) {
      return absl::InvalidArgumentError(absl::StrFormat("line %d is \"%s\", want a token in base64 and its rank", line,
                                                        absl::CHexEscape(entry.substr(0, 80))));
    }
    if (rank >= static_cast<int32_t>(tokens.size())) tokens.resize(rank + 1);
    if (!tokens[rank].empty()) return absl::InvalidArgumentError(absl::StrFormat("line %d: rank %d occurs twice", line, rank));
    tokens[rank] = std::move(token);
  }
  if (tokens.empty()) return absl::InvalidArgumentError("has no tokens");
  return tokens;
}

// tiktoken joins the neighbours whose joint bytes have the lowest rank: every way to cut a token in two is a merge.
absl::Status FillVocabulary(const std::vector<std::string>& tokens, TokenizerData& data) {
  text::StringToId ids;
  ids.reserve(tokens.size());
  for (size_t rank = 0; rank < tokens.size(); ++rank) {
    data.pieces.push_back(text::SpellingOfBytes(tokens[rank]));
    if (!tokens[rank].empty() && !ids.emplace(tokens[rank], static_cast<int32_t>(rank)).second) {
      return absl::InvalidArgumentError(absl::StrFormat("the token of rank %d has a lower rank too", rank));
    }
  }
  const auto id_of = [&](std::string_view bytes) {
    const auto found = ids.find(bytes);
    return found == ids.end() ? -1 : found->second;
  };
  for (int byte = 0; byte < 256; ++byte) {
    if (id_of(std::string(1, static_cast<char>(byte))) < 0) {
      return absl::InvalidArgumentError(absl::StrFormat("there is no token for the byte 0x%02x", byte));
    }
  }
  for (size_t rank = 0; rank < tokens.size(); ++rank) {
    const std::string_view token = tokens[rank];
    for (size_t cut = 1; cut < token.size(); ++cut) {
      const int32_t left = id_of(token.substr(0, cut)), right = id_of(token.substr(cut));
      if (left >= 0 && right >= 0) {
        data.merges.push_back({left, right, static_cast<int32_t>(rank), static_cast<int32_t>(rank)});
      }
    }
  }
  return absl::OkStatus();
}

int32_t AppendSpecial(std::string content, TokenizerData& data) {
  const auto id = static_cast<int32_t>(data.pieces.size() + data.added_tokens.size());
  data.added_tokens.push_back({.id = id, .content = std::move(content), .special = true});
  return id;
}

void FillQwen(TokenizerData& data) {
  data.normalizer = {{.kind = NormalizerStep::Kind::kNfc}};
  data.eos_id = AppendSpecial("<|endoftext|>", data);
  AppendSpecial("<|im_start|>", data);
  const int32_t turn_end = AppendSpecial("<|im_end|>", data);
  for (int i = 0; i < kQwenExtraTokens; ++i) AppendSpecial(absl::StrCat("<|extra_", i, "|>"), data);
  data.generation_eos_ids = {data.eos_id, turn_end};
}

absl::Status FillGlm4(const JsonFields& config, TokenizerData& data) {
  BERTH_RETURN_IF_ERROR(TakeAddedTokensDecoder(config, data));
  BERTH_RETURN_IF_ERROR(TakeTokenizerConfig(config, data));
  for (const char* content : {"[gMASK]", "<sop>"}) {
    const auto found = std::find_if(data.added_tokens.begin(), data.added_tokens.end(),
                                    [&](const text::AddedToken& token) { return token.content == content; });
    if (found == data.added_tokens.end()) return config.Error("added_tokens_decoder", absl::StrCat("lacks ", content));
    data.prefix_ids.push_back(found->id);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> TokenizerClass(std::string_view tokenizer_config_json) {
  if (tokenizer_config_json.empty()) return "QWenTokenizer";
  BERTH_ASSIGN_OR_RETURN(const nlohmann::json config, ParseJsonObject(tokenizer_config_json, "tokenizer_config.json"));
  return JsonFields(config, "tokenizer_config.json").StringOr("tokenizer_class", "QWenTokenizer");
}

}  // namespace

bool IsTiktokenConfig(std::string_view tokenizer_config_json) {
  const absl::StatusOr<std::string> tokenizer_class = TokenizerClass(tokenizer_config_json);
  return tokenizer_class.ok() && *tokenizer_class == "ChatGLM4Tokenizer";
}

absl::StatusOr<TokenizerData> ParseTiktoken(std::string_view ranks, std::string_view tokenizer_config_json) {
  BERTH_ASSIGN_OR_RETURN(const std::string tokenizer_class, TokenizerClass(tokenizer_config_json));
  const bool glm4 = tokenizer_class == "ChatGLM4Tokenizer";
  if (!glm4 && tokenizer_class != "QWenTokenizer") {
    return absl::UnimplementedError(
        absl::StrCat("tokenizer_config.json.tokenizer_class is \"", tokenizer_class,
                     "\": of tiktoken files those of QWenTokenizer and ChatGLM4Tokenizer are read"));
  }
  TokenizerData data{.byte_level = true, .ignore_merges = true};
  BERTH_ASSIGN_OR_RETURN(const std::vector<std::string> tokens, ParseRanks(ranks));
  BERTH_RETURN_IF_ERROR(FillVocabulary(tokens, data));
  data.pre_tokenizer = {{.pattern = {.text = absl::StrFormat(kWords, glm4 ? R"(\p{N}{1,3})" : R"(\p{N})"), .is_regex = true}}};
  if (!glm4) {
    FillQwen(data);
    return data;
  }
  BERTH_ASSIGN_OR_RETURN(const nlohmann::json config, ParseJsonObject(tokenizer_config_json, "tokenizer_config.json"));
  BERTH_RETURN_IF_ERROR(FillGlm4(JsonFields(config, "tokenizer_config.json"), data));
  return data;
}

}  // namespace berth::loader
