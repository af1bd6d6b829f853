#include "worker/loader/gguf_tokenizer_keys.h"

#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace berth::loader {
namespace {

std::string KeyOf(std::string_view name) { return "tokenizer.ggml." + std::string(name); }

absl::Status TranslateOptional(const GgufMetadata& metadata, std::string_view key, std::optional<uint32_t>& out) {
  const std::string name = KeyOf(key);
  if (!metadata.Has(name)) return absl::OkStatus();
  BERTH_ASSIGN_OR_RETURN(const int64_t id, metadata.Int(name));
  if (id < 0 || id > std::numeric_limits<int32_t>::max()) return metadata.Error(name, "want a token id");
  out = static_cast<uint32_t>(id);
  return absl::OkStatus();
}

absl::Status TranslateOptional(const GgufMetadata& metadata, std::string_view key, std::optional<bool>& out) {
  const std::string name = KeyOf(key);
  if (!metadata.Has(name)) return absl::OkStatus();
  BERTH_ASSIGN_OR_RETURN(out, metadata.Bool(name));
  return absl::OkStatus();
}

// An absent key is an empty array; one with elements of another type is an error.
template <typename From, typename To>
absl::Status TranslateArray(const GgufMetadata& metadata, std::string_view key, std::vector<To>& out) {
  const std::string name = KeyOf(key);
  if (!metadata.Has(name)) return absl::OkStatus();
  const std::vector<From>* values = metadata.Find<std::vector<From>>(name);
  if (values == nullptr) return metadata.Error(name, "want an array of another type");
  out.reserve(values->size());
  for (const From& value : *values) out.push_back(static_cast<To>(value));
  return absl::OkStatus();
}

absl::StatusOr<std::string> StringOrEmpty(const GgufMetadata& metadata, const std::string& key) {
  return metadata.Has(key) ? metadata.String(key) : std::string();
}

}  // namespace

absl::StatusOr<GgufTokenizerMetadata> TranslateGgufTokenizer(const GgufMetadata& metadata) {
  GgufTokenizerMetadata out;
  BERTH_ASSIGN_OR_RETURN(out.model, metadata.String(KeyOf("model")));
  BERTH_ASSIGN_OR_RETURN(out.pre, StringOrEmpty(metadata, KeyOf("pre")));
  BERTH_RETURN_IF_ERROR((TranslateArray<std::string>(metadata, "tokens", out.tokens)));
  BERTH_RETURN_IF_ERROR((TranslateArray<std::string>(metadata, "merges", out.merges)));
  BERTH_RETURN_IF_ERROR((TranslateArray<int64_t>(metadata, "token_type", out.token_type)));
  BERTH_RETURN_IF_ERROR((TranslateArray<double>(metadata, "scores", out.scores)));
  BERTH_RETURN_IF_ERROR(TranslateOptional(metadata, "bos_token_id", out.bos_token_id));
  BERTH_RETURN_IF_ERROR(TranslateOptional(metadata, "eos_token_id", out.eos_token_id));
  BERTH_RETURN_IF_ERROR(TranslateOptional(metadata, "eot_token_id", out.eot_token_id));
  BERTH_RETURN_IF_ERROR(TranslateOptional(metadata, "unknown_token_id", out.unknown_token_id));
  BERTH_RETURN_IF_ERROR(TranslateOptional(metadata, "add_bos_token", out.add_bos_token));
  BERTH_RETURN_IF_ERROR(TranslateOptional(metadata, "add_eos_token", out.add_eos_token));
  BERTH_RETURN_IF_ERROR(TranslateOptional(metadata, "add_space_prefix", out.add_space_prefix));
  BERTH_ASSIGN_OR_RETURN(out.chat_template, StringOrEmpty(metadata, "tokenizer.chat_template"));
  return out;
}

}  // namespace berth::loader
