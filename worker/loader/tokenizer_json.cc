#include "worker/loader/tokenizer_json.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "nlohmann/json.hpp"
#include "worker/loader/json_fields.h"
#include "worker/loader/tokenizer_config.h"
#include "worker/loader/tokenizer_json_steps.h"
#include "worker/text/string_map.h"

namespace berth::loader {
namespace {

using nlohmann::json;
using text::AddedToken;
using text::TokenizerData;

constexpr int32_t kMostIds = 1 << 24;

absl::Status ParseVocabulary(const JsonFields& model, text::StringToId& ids, TokenizerData& data) {
  BERTH_ASSIGN_OR_RETURN(const JsonFields vocabulary, model.Object("vocab"));
  ids.reserve(vocabulary.object().size());
  for (const auto& [piece, value] : vocabulary.object().items()) {
    BERTH_ASSIGN_OR_RETURN(const int32_t id, vocabulary.Int(piece));
    if (id < 0 || id >= kMostIds) return vocabulary.Error(piece, absl::StrFormat("is %d, which is no token id", id));
    if (id >= static_cast<int32_t>(data.pieces.size())) data.pieces.resize(id + 1);
    if (!data.pieces[id].empty()) {
      return vocabulary.Error(piece, absl::StrFormat("has id %d, as has \"%s\"", id, data.pieces[id]));
    }
    data.pieces[id] = piece;
    ids.emplace(piece, id);
  }
  return absl::OkStatus();
}

// "left right", or since tokenizers 0.20 ["left", "right"].
absl::StatusOr<std::pair<std::string, std::string>> SplitMerge(const json& merge, const std::string& path) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return std::pair(*merge[0].get_ptr<const std::string*>(), *merge[1].get_ptr<const std::string*>());
  }
  if (!merge.is_string()) return absl::InvalidArgumentError(absl::StrFormat("%s is not a pair of pieces", path));
  const auto& text = *merge.get_ptr<const std::string*>();
  const size_t space = text.find(' ');
  if (space == std::string::npos)
    return absl::InvalidArgumentError(absl::StrFormat("%s is \"%s\", want two pieces", path, text));
  return std::pair(text.substr(0, space), text.substr(space + 1));
}

absl::Status ParseMerges(const JsonFields& model, const text::StringToId& ids, TokenizerData& data) {
  BERTH_ASSIGN_OR_RETURN(const json* merges, model.Array("merges"));
  data.merges.reserve(merges->size());
  for (size_t rank = 0; rank < merges->size(); ++rank) {
    const std::string path = absl::StrFormat("%s[%d]", model.PathOf("merges"), rank);
    BERTH_ASSIGN_OR_RETURN(const auto merge, SplitMerge((*merges)[rank], path));
    const auto id_of = [&](const std::string& piece) {
      const auto found = ids.find(piece);
      return found == ids.end() ? -1 : found->second;
    };
    const auto& [left, right] = merge;
    const text::Merge parsed{id_of(left), id_of(right), id_of(left + right), static_cast<int32_t>(rank)};
    if (parsed.left < 0 || parsed.right < 0 || parsed.result < 0) {
      return absl::InvalidArgumentError(
          absl::StrFormat("%s is \"%s %s\", which names a piece that is not in the vocabulary", path, left, right));
    }
    data.merges.push_back(parsed);
  }
  return absl::OkStatus();
}

// "vocab" is a list of [piece, score], by id.
absl::Status ParseUnigram(const JsonFields& model, TokenizerData& data) {
  data.model = TokenizerData::Model::kUnigram;
  data.fuse_unknown = true;
  BERTH_ASSIGN_OR_RETURN(data.byte_fallback, model.BoolOr("byte_fallback", false));
  BERTH_ASSIGN_OR_RETURN(const json* vocabulary, model.Array("vocab"));
  for (size_t id = 0; id < vocabulary->size(); ++id) {
    const json& entry = (*vocabulary)[id];
    if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_number()) {
      return absl::InvalidArgumentError(absl::StrFormat("%s[%d] is not a piece and its score", model.PathOf("vocab"), id));
    }
    data.pieces.push_back(*entry[0].get_ptr<const std::string*>());
    data.scores.push_back(entry[1].get<double>());
  }
  if (model.Find("unk_id") == nullptr) return absl::OkStatus();
  BERTH_ASSIGN_OR_RETURN(data.unknown_id, model.Int("unk_id"));
  if (data.unknown_id >= 0 && data.unknown_id < static_cast<int32_t>(data.pieces.size())) return absl::OkStatus();
  return model.Error("unk_id", absl::StrFormat("is %d, which is not in the vocabulary", data.unknown_id));
}

absl::Status ParseModel(const JsonFields& model, TokenizerData& data) {
  BERTH_ASSIGN_OR_RETURN(const std::string type, model.StringOr("type", "BPE"));
  if (type == "Unigram") return ParseUnigram(model, data);
  if (type != "BPE") return model.Error("type", absl::StrFormat("is \"%s\", which is not supported", type));
  if (const json* dropout = model.Find("dropout"); dropout != nullptr && *dropout != 0) {
    return model.Error("dropout", "is not zero, which is not supported");
  }
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    BERTH_ASSIGN_OR_RETURN(const std::string affix, model.StringOr(key, ""));
    if (!affix.empty()) return model.Error(key, absl::StrFormat("is \"%s\", which is not supported", affix));
  }
  BERTH_ASSIGN_OR_RETURN(data.fuse_unknown, model.BoolOr("fuse_unk", false));
  BERTH_ASSIGN_OR_RETURN(data.byte_fallback, model.BoolOr("byte_fallback", false));
  BERTH_ASSIGN_OR_RETURN(data.ignore_merges, model.BoolOr("ignore_merges", false));

  text::StringToId ids;
  BERTH_RETURN_IF_ERROR(ParseVocabulary(model, ids, data));
  BERTH_RETURN_IF_ERROR(ParseMerges(model, ids, data));
  if (model.Find("unk_token") != nullptr) {
    BERTH_ASSIGN_OR_RETURN(const std::string unknown, model.String("unk_token"));
    const auto found = ids.find(unknown);
    if (found == ids.end()) return model.Error("unk_token", absl::StrFormat("\"%s\" is not in the vocabulary", unknown));
    data.unknown_id = found->second;
  }
  return absl::OkStatus();
}

absl::Status ParseAddedTokens(const JsonFields& root, TokenizerData& data) {
  if (root.Find("added_tokens") == nullptr) return absl::OkStatus();
  BERTH_ASSIGN_OR_RETURN(const json* tokens, root.Array("added_tokens"));
  for (size_t i = 0; i < tokens->size(); ++i) {
    BERTH_ASSIGN_OR_RETURN(const JsonFields fields, JsonFields::Of((*tokens)[i], absl::StrFormat("added_tokens[%d]", i)));
    BERTH_ASSIGN_OR_RETURN(const int32_t id, fields.Int("id"));
    BERTH_ASSIGN_OR_RETURN(AddedToken token, ParseAddedToken(fields, id));
    data.added_tokens.push_back(std::move(token));
  }
  return absl::OkStatus();
}

// These classes put the first token before a text themselves, so that tokenizer.json need not say it.
absl::Status TakeAddBosToken(const JsonFields& config, TokenizerData& data) {
  BERTH_ASSIGN_OR_RETURN(const bool add_bos, config.BoolOr("add_bos_token", false));
  BERTH_ASSIGN_OR_RETURN(const std::string tokenizer_class, config.StringOr("tokenizer_class", ""));
  const bool heeded = tokenizer_class.starts_with("Llama") || tokenizer_class.starts_with("Gemma");
  if (add_bos && heeded && data.bos_id >= 0 && data.prefix_ids.empty()) data.prefix_ids = {data.bos_id};
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<TokenizerData> ParseTokenizerJson(std::string_view tokenizer_json, std::string_view tokenizer_config_json) {
  BERTH_ASSIGN_OR_RETURN(const json parsed, ParseJsonObject(tokenizer_json, "tokenizer.json"));
  const JsonFields root(parsed, "tokenizer.json");
  TokenizerData data;
  BERTH_ASSIGN_OR_RETURN(const JsonFields model, root.Object("model"));
  BERTH_RETURN_IF_ERROR(ParseModel(model, data));
  BERTH_RETURN_IF_ERROR(ParseAddedTokens(root, data));
  BERTH_RETURN_IF_ERROR(ParseNormalizer(root, data));
  BERTH_RETURN_IF_ERROR(ParsePreTokenizer(root, data));
  BERTH_RETURN_IF_ERROR(ParsePostProcessor(root, data));
  BERTH_RETURN_IF_ERROR(ParseDecoder(root, data));
  if (!tokenizer_config_json.empty()) {
    BERTH_ASSIGN_OR_RETURN(const json config, ParseJsonObject(tokenizer_config_json, "tokenizer_config.json"));
    const JsonFields fields(config, "tokenizer_config.json");
    BERTH_RETURN_IF_ERROR(TakeTokenizerConfig(fields, data));
    BERTH_RETURN_IF_ERROR(TakeAddBosToken(fields, data));
  }
  return data;
}

absl::StatusOr<TokenizerData> ParseSentencePiece(std::string model, std::string_view tokenizer_config_json) {
  TokenizerData data{.model = TokenizerData::Model::kSentencePiece};
  data.sentencepiece_model = std::move(model);
  data.add_bos = true;
  if (tokenizer_config_json.empty()) return data;
  BERTH_ASSIGN_OR_RETURN(const json parsed, ParseJsonObject(tokenizer_config_json, "tokenizer_config.json"));
  const JsonFields config(parsed, "tokenizer_config.json");
  BERTH_RETURN_IF_ERROR(TakeAddedTokensDecoder(config, data));
  BERTH_RETURN_IF_ERROR(TakeTokenizerConfig(config, data));
  BERTH_ASSIGN_OR_RETURN(data.add_bos, config.BoolOr("add_bos_token", true));
  BERTH_ASSIGN_OR_RETURN(data.add_eos, config.BoolOr("add_eos_token", false));
  BERTH_ASSIGN_OR_RETURN(const bool legacy, config.BoolOr("legacy", true));
  data.prefix_first_only = !legacy;
  BERTH_ASSIGN_OR_RETURN(const std::string tokenizer_class, config.StringOr("tokenizer_class", ""));
  if (tokenizer_class == "ChatGLMTokenizer") {
    data.add_bos = data.add_eos = false;
    data.appended_tokens = {"[MASK]", "[gMASK]", "[sMASK]", "sop", "eop"};
    data.prefix_tokens = {"[gMASK]", "sop"};
    // The class has one name in ChatGLM2 and 3; only the latter's has tokens for roles.
    BERTH_ASSIGN_OR_RETURN(const std::string model_name, config.StringOr("name_or_path", ""));
    if (!absl::StrContains(model_name, "chatglm2")) {
      for (const char* role : {"<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"}) {
        data.appended_tokens.emplace_back(role);
      }
    }
  }
  return data;
}

}  // namespace berth::loader
