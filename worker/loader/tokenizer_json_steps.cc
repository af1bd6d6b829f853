#include "worker/loader/tokenizer_json_steps.h"

#include <array>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "base/status.h"
#include "worker/text/byte_spelling.h"

namespace berth::loader {
namespace {

using nlohmann::json;
using text::DecoderRules;
using text::NormalizerStep;
using text::Pattern;
using text::PreTokenizerStep;
using text::SplitBehavior;
using text::TokenizerData;

constexpr int kDeepestSequence = 8;

using Visit = std::function<absl::Status(const std::string& type, const JsonFields& fields)>;

// Calls `visit` for every step, with sequences (whose steps are in `steps_key`) unrolled.
absl::Status ForEachStep(const json* value, const std::string& path, const char* steps_key, const Visit& visit, int depth = 0) {
  if (value == nullptr) return absl::OkStatus();
  if (depth > kDeepestSequence) return absl::InvalidArgumentError(absl::StrFormat("%s is nested too deep", path));
  BERTH_ASSIGN_OR_RETURN(const JsonFields fields, JsonFields::Of(*value, path));
  BERTH_ASSIGN_OR_RETURN(const std::string type, fields.String("type"));
  if (type != "Sequence") return visit(type, fields);
  BERTH_ASSIGN_OR_RETURN(const json* steps, fields.Array(steps_key));
  for (size_t i = 0; i < steps->size(); ++i) {
    const std::string step_path = absl::StrFormat("%s.%s[%d]", path, steps_key, i);
    BERTH_RETURN_IF_ERROR(ForEachStep(&(*steps)[i], step_path, steps_key, visit, depth + 1));
  }
  return absl::OkStatus();
}

absl::Status Unsupported(const std::string& type, const JsonFields& fields) {
  return fields.Error("type", absl::StrFormat("is \"%s\", which is not supported", type));
}

absl::StatusOr<Pattern> ParsePattern(const JsonFields& fields) {
  BERTH_ASSIGN_OR_RETURN(const JsonFields pattern, fields.Object("pattern"));
  const bool is_regex = pattern.Find("Regex") != nullptr;
  BERTH_ASSIGN_OR_RETURN(std::string text, pattern.String(is_regex ? "Regex" : "String"));
  if (text.empty()) return fields.Error("pattern", "is empty");
  return Pattern{.text = std::move(text), .is_regex = is_regex};
}

absl::StatusOr<SplitBehavior> ParseBehavior(const JsonFields& fields, std::string fallback) {
  BERTH_ASSIGN_OR_RETURN(const std::string name, fields.StringOr("behavior", std::move(fallback)));
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return fields.Error("behavior", absl::StrFormat("is \"%s\", which is unknown", name));
}

PreTokenizerStep SplitBy(const char* expression, SplitBehavior behavior, bool invert = false) {
  return {.pattern = {.text = expression, .is_regex = true}, .behavior = behavior, .invert = invert};
}

// "always", "first" or "never"; files before tokenizers 0.15 say add_prefix_space instead.
absl::StatusOr<std::string> PrependScheme(const JsonFields& fields) {
  BERTH_ASSIGN_OR_RETURN(const bool add_prefix, fields.BoolOr("add_prefix_space", true));
  BERTH_ASSIGN_OR_RETURN(std::string scheme, fields.StringOr("prepend_scheme", add_prefix ? "always" : "never"));
  if (scheme == "always" || scheme == "first" || scheme == "never") return scheme;
  return fields.Error("prepend_scheme", absl::StrFormat("is \"%s\", which is unknown", scheme));
}

absl::Status AddMetaspace(const JsonFields& fields, TokenizerData& data) {
  BERTH_ASSIGN_OR_RETURN(const std::string replacement, fields.String("replacement"));
  BERTH_ASSIGN_OR_RETURN(const std::string scheme, PrependScheme(fields));
  BERTH_ASSIGN_OR_RETURN(const bool split, fields.BoolOr("split", true));
  if (replacement.empty()) return fields.Error("replacement", "is empty");
  data.pre_tokenizer.push_back({.kind = PreTokenizerStep::Kind::kPrefix,
                                .prefix = scheme == "never" ? "" : replacement,
                                .first_only = scheme == "first",
                                .replace_spaces = replacement});
  if (split) data.pre_tokenizer.push_back({.pattern = {.text = replacement}, .behavior = SplitBehavior::kMergedWithNext});
  return absl::OkStatus();
}

absl::Status AddByteLevel(const JsonFields& fields, TokenizerData& data) {
  BERTH_ASSIGN_OR_RETURN(const bool add_prefix, fields.BoolOr("add_prefix_space", true));
  BERTH_ASSIGN_OR_RETURN(const bool use_regex, fields.BoolOr("use_regex", true));
  if (add_prefix) data.pre_tokenizer.push_back({.kind = PreTokenizerStep::Kind::kPrefix, .prefix = " "});
  if (use_regex) data.pre_tokenizer.push_back(SplitBy(text::kGpt2Words, SplitBehavior::kIsolated));
  data.byte_level = true;
  return absl::OkStatus();
}

absl::Status AddPreTokenizer(const std::string& type, const JsonFields& fields, TokenizerData& data) {
  if (data.byte_level) return fields.Error("type", absl::StrFormat("is \"%s\", but nothing may follow ByteLevel", type));
  if (type == "ByteLevel") return AddByteLevel(fields, data);
  if (type == "Metaspace") return AddMetaspace(fields, data);
  PreTokenizerStep step;
  if (type == "Split") {
    BERTH_ASSIGN_OR_RETURN(step.pattern, ParsePattern(fields));
    BERTH_ASSIGN_OR_RETURN(step.behavior, ParseBehavior(fields, ""));
    BERTH_ASSIGN_OR_RETURN(step.invert, fields.BoolOr("invert", false));
  } else if (type == "Digits") {
    BERTH_ASSIGN_OR_RETURN(const bool individual, fields.BoolOr("individual_digits", false));
    step = SplitBy(individual ? R"(\p{N})" : R"(\p{N}+)", SplitBehavior::kIsolated);
  } else if (type == "Punctuation") {
    BERTH_ASSIGN_OR_RETURN(const SplitBehavior behavior, ParseBehavior(fields, "Isolated"));
    step = SplitBy(R"([\p{P}$+<=>^`|~])", behavior);
  } else if (type == "Whitespace") {
    step = SplitBy(R"(\w+|[^\w\s]+)", SplitBehavior::kRemoved, /*invert=*/true);
  } else if (type == "WhitespaceSplit") {
    step = SplitBy(R"(\s)", SplitBehavior::kRemoved);
  } else {
    return Unsupported(type, fields);
  }
  data.pre_tokenizer.push_back(std::move(step));
  return absl::OkStatus();
}

absl::Status AddNormalizer(const std::string& type, const JsonFields& fields, TokenizerData& data) {
  using Kind = NormalizerStep::Kind;
  constexpr std::array<std::pair<std::string_view, Kind>, 6> kPlain = {{{"NFC", Kind::kNfc},
                                                                        {"NFD", Kind::kNfd},
                                                                        {"NFKC", Kind::kNfkc},
                                                                        {"NFKD", Kind::kNfkd},
                                                                        {"Lowercase", Kind::kLowercase},
                                                                        {"StripAccents", Kind::kStripAccents}}};
  for (const auto& [name, kind] : kPlain) {
    if (type != name) continue;
    data.normalizer.push_back({.kind = kind});
    return absl::OkStatus();
  }
  NormalizerStep step;
  if (type == "Strip") {
    step.kind = Kind::kStrip;
    BERTH_ASSIGN_OR_RETURN(step.strip_left, fields.BoolOr("strip_left", true));
    BERTH_ASSIGN_OR_RETURN(step.strip_right, fields.BoolOr("strip_right", true));
  } else if (type == "Prepend") {
    step.kind = Kind::kPrepend;
    BERTH_ASSIGN_OR_RETURN(step.content, fields.String("prepend"));
  } else if (type == "Replace") {
    step.kind = Kind::kReplace;
    BERTH_ASSIGN_OR_RETURN(step.pattern, ParsePattern(fields));
    BERTH_ASSIGN_OR_RETURN(step.content, fields.String("content"));
  } else {
    return Unsupported(type, fields);
  }
  data.normalizer.push_back(std::move(step));
  return absl::OkStatus();
}

// TemplateProcessing: the special tokens before and after the one sequence of the "single" template.
absl::Status AddTemplate(const JsonFields& fields, TokenizerData& data) {
  BERTH_ASSIGN_OR_RETURN(const json* parts, fields.Array("single"));
  BERTH_ASSIGN_OR_RETURN(const JsonFields tokens, fields.Object("special_tokens"));
  std::vector<int32_t> before, after;
  bool seen_text = false;
  for (const json& part : *parts) {
    BERTH_ASSIGN_OR_RETURN(const JsonFields entry, JsonFields::Of(part, fields.PathOf("single")));
    if (entry.Find("Sequence") != nullptr) {
      if (seen_text) return fields.Error("single", "has the text twice, which is not supported");
      seen_text = true;
      continue;
    }
    BERTH_ASSIGN_OR_RETURN(const JsonFields token, entry.Object("SpecialToken"));
    BERTH_ASSIGN_OR_RETURN(const std::string name, token.String("id"));
    BERTH_ASSIGN_OR_RETURN(const JsonFields declared, tokens.Object(name));
    BERTH_ASSIGN_OR_RETURN(const json* ids, declared.Array("ids"));
    for (const json& id : *ids) {
      if (!id.is_number_unsigned() || id.get<uint64_t>() > std::numeric_limits<int32_t>::max()) {
        return declared.Error("ids", "has a value that is no token id");
      }
      (seen_text ? after : before).push_back(id.get<int32_t>());
    }
  }
  if (!seen_text) return fields.Error("single", "lacks the text");
  data.prefix_ids.insert(data.prefix_ids.begin(), before.begin(), before.end());
  data.suffix_ids.insert(data.suffix_ids.end(), after.begin(), after.end());
  return absl::OkStatus();
}

absl::Status AddPostProcessor(const std::string& type, const JsonFields& fields, TokenizerData& data) {
  if (type == "ByteLevel") return absl::OkStatus();  // moves offsets only
  if (type == "TemplateProcessing") return AddTemplate(fields, data);
  return Unsupported(type, fields);
}

absl::Status AddDecoder(const std::string& type, const JsonFields& fields, TokenizerData& data) {
  DecoderRules& rules = data.decoder;
  if (type == "ByteLevel") {
    if (!data.byte_level) return fields.Error("type", "is \"ByteLevel\", but the pre_tokenizer has no ByteLevel");
  } else if (type == "ByteFallback") {
    rules.byte_tokens = true;
    rules.broken = DecoderRules::BrokenBytes::kWholeRun;
  } else if (type == "Metaspace") {
    BERTH_ASSIGN_OR_RETURN(rules.space, fields.String("replacement"));
    BERTH_ASSIGN_OR_RETURN(const std::string scheme, PrependScheme(fields));
    rules.drop_first_token_spaces = scheme != "never";
  } else if (type == "Replace") {
    BERTH_ASSIGN_OR_RETURN(const Pattern pattern, ParsePattern(fields));
    BERTH_ASSIGN_OR_RETURN(const std::string content, fields.String("content"));
    if (pattern.is_regex || content != " ") return fields.Error("content", "is not one space, which is not supported");
    rules.space = pattern.text;
  } else if (type == "Strip") {
    BERTH_ASSIGN_OR_RETURN(const std::string content, fields.String("content"));
    BERTH_ASSIGN_OR_RETURN(rules.strip_start_spaces, fields.Int("start"));
    BERTH_ASSIGN_OR_RETURN(const int32_t stop, fields.Int("stop"));
    if (content != " " || stop != 0)
      return fields.Error("stop", "strips other than spaces at the start, which is not supported");
  } else if (type != "Fuse") {
    return Unsupported(type, fields);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ParseNormalizer(const JsonFields& root, TokenizerData& data) {
  return ForEachStep(root.Find("normalizer"), "normalizer", "normalizers",
                     [&](const std::string& type, const JsonFields& fields) { return AddNormalizer(type, fields, data); });
}

absl::Status ParsePreTokenizer(const JsonFields& root, TokenizerData& data) {
  return ForEachStep(root.Find("pre_tokenizer"), "pre_tokenizer", "pretokenizers",
                     [&](const std::string& type, const JsonFields& fields) { return AddPreTokenizer(type, fields, data); });
}

absl::Status ParsePostProcessor(const JsonFields& root, TokenizerData& data) {
  return ForEachStep(root.Find("post_processor"), "post_processor", "processors",
                     [&](const std::string& type, const JsonFields& fields) { return AddPostProcessor(type, fields, data); });
}

absl::Status ParseDecoder(const JsonFields& root, TokenizerData& data) {
  if (root.Find("decoder") == nullptr) return root.Error("decoder", "is absent, which is not supported");
  std::vector<std::string> types;
  BERTH_RETURN_IF_ERROR(
      ForEachStep(root.Find("decoder"), "decoder", "decoders", [&](const std::string& type, const JsonFields& fields) {
        types.push_back(type);
        return AddDecoder(type, fields, data);
      }));
  using Types = std::vector<std::string>;
  const Types kLlama = {"Replace", "ByteFallback", "Fuse"};
  const Types kLlamaStrip = {"Replace", "ByteFallback", "Fuse", "Strip"};
  if (types == Types{"ByteLevel"} || types == Types{"Metaspace"} || types == kLlama || types == kLlamaStrip) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      "decoder is a sequence that is not supported: want ByteLevel, Metaspace, or Replace, "
      "ByteFallback, Fuse and perhaps Strip");
}

}  // namespace berth::loader
