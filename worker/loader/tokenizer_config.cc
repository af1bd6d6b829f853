#include "worker/loader/tokenizer_config.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "base/status.h"

namespace berth::loader {
namespace {

using nlohmann::json;
using text::AddedToken;
using text::TokenizerData;

// The content of a token that is given as text or as an object; empty: none.
absl::StatusOr<std::string> TokenContent(const JsonFields& config, const char* key) {
  const json* value = config.Find(key);
  if (value == nullptr || !value->is_object()) return config.StringOr(key, "");
  BERTH_ASSIGN_OR_RETURN(const JsonFields token, config.Object(key));
  return token.String("content");
}

absl::StatusOr<int32_t> IdOfContent(const TokenizerData& data, const JsonFields& config, const char* key) {
  BERTH_ASSIGN_OR_RETURN(const std::string content, TokenContent(config, key));
  if (content.empty()) return -1;
  for (const AddedToken& token : data.added_tokens) {
    if (token.content == content) return token.id;
  }
  for (size_t id = 0; id < data.pieces.size(); ++id) {
    if (data.pieces[id] == content) return static_cast<int32_t>(id);
  }
  if (data.model == TokenizerData::Model::kSentencePiece) return -1;  // the model itself knows it
  return config.Error(key, absl::StrFormat("is \"%s\", which is not in the vocabulary", content));
}

// The template itself, or the one named "default" of several.
absl::StatusOr<std::string> ParseChatTemplate(const JsonFields& config) {
  const json* value = config.Find("chat_template");
  if (value == nullptr || !value->is_array()) return config.StringOr("chat_template", "");
  for (const json& entry : *value) {
    BERTH_ASSIGN_OR_RETURN(const JsonFields named, JsonFields::Of(entry, config.PathOf("chat_template")));
    BERTH_ASSIGN_OR_RETURN(const std::string name, named.String("name"));
    if (name == "default") return named.String("template");
  }
  return config.Error("chat_template", "has no template named \"default\"");
}

}  // namespace

absl::StatusOr<json> ParseJsonObject(std::string_view source, const char* file) {
  json parsed = json::parse(source, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) return absl::InvalidArgumentError(absl::StrFormat("%s is not JSON", file));
  if (!parsed.is_object()) return absl::InvalidArgumentError(absl::StrFormat("%s is not an object", file));
  return parsed;
}

absl::StatusOr<AddedToken> ParseAddedToken(const JsonFields& fields, int32_t id) {
  AddedToken token{.id = id};
  BERTH_ASSIGN_OR_RETURN(token.content, fields.String("content"));
  if (token.content.empty()) return fields.Error("content", "is empty");
  BERTH_ASSIGN_OR_RETURN(token.special, fields.BoolOr("special", false));
  BERTH_ASSIGN_OR_RETURN(token.lstrip, fields.BoolOr("lstrip", false));
  BERTH_ASSIGN_OR_RETURN(token.rstrip, fields.BoolOr("rstrip", false));
  BERTH_ASSIGN_OR_RETURN(token.single_word, fields.BoolOr("single_word", false));
  BERTH_ASSIGN_OR_RETURN(token.normalized, fields.BoolOr("normalized", !token.special));
  return token;
}

absl::Status TakeAddedTokensDecoder(const JsonFields& config, TokenizerData& data) {
  if (config.Find("added_tokens_decoder") == nullptr) return absl::OkStatus();
  BERTH_ASSIGN_OR_RETURN(const JsonFields tokens, config.Object("added_tokens_decoder"));
  for (const auto& [key, value] : tokens.object().items()) {
    int32_t id;
    if (!absl::SimpleAtoi(key, &id)) return tokens.Error(key, "is not named by a token id");
    BERTH_ASSIGN_OR_RETURN(const JsonFields fields, tokens.Object(key));
    BERTH_ASSIGN_OR_RETURN(AddedToken token, ParseAddedToken(fields, id));
    data.added_tokens.push_back(std::move(token));
  }
  return absl::OkStatus();
}

absl::Status TakeTokenizerConfig(const JsonFields& config, TokenizerData& data) {
  BERTH_ASSIGN_OR_RETURN(data.bos_id, IdOfContent(data, config, "bos_token"));
  BERTH_ASSIGN_OR_RETURN(data.eos_id, IdOfContent(data, config, "eos_token"));
  if (data.eos_id >= 0) data.generation_eos_ids = {data.eos_id};
  BERTH_ASSIGN_OR_RETURN(data.chat_template, ParseChatTemplate(config));
  return absl::OkStatus();
}

}  // namespace berth::loader
