#include "worker/loader/gguf_pre_tokenizers.h"

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "worker/text/byte_spelling.h"

namespace berth::loader {
namespace {

constexpr const char* kGpt2[] = {text::kGpt2Words};
constexpr const char* kDefault[] = {R"([\p{P}\$\+<=>\^~\|]+)", text::kGpt2Words, R"(\p{N}+)", "[0-9][0-9][0-9]"};
constexpr const char* kDigitsThenGpt2[] = {R"(\p{N})", text::kGpt2Words};
constexpr const char* kLlama3[] = {
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
constexpr const char* kQwen2[] = {
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
constexpr const char* kDeepseekLlm[] = {
    R"([\r\n])",
    // Some letters are numbers here, since Unicode normalization would change them.
    "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯ"
    "Ա-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\\x{1f7d}"
    "ᾀ-ᾴᾶ-ᾼ\\x{1fbe}ῂ-ῄῆ-ῌῐ-\\x{1fd3}ῖ-\\x{1fdb}ῠ-Ῥῲ-ῴῶ-ῼℂℇ"
    "ℊ-ℓℕℙ-ℝℤ\\x{2126}ℨ\\x{212a}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭ"
    "Ꚁ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ\\x{10400}-\\x{1044f}"
    "\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}"
    "\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}"
    "\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}]+",
    "\\s?[!-/:-~！-／：-～‘-‟　-。]+",
    R"(\s+$)",
    "[一-龥ࠀ-一가-퟿]+",
    R"(\p{N}+)",
};
constexpr const char* kDeepseekCoder[] = {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", "[一-龥ࠀ-一가-퟿]+", R"(\p{N})"};

constexpr const char* kDeepseek3[] = {
    R"(\p{N}{1,3})", "[一-龥぀-ゟ゠-ヿ]+",
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
constexpr const char* kFalcon[] = {R"([\p{P}\$\+<=>\^~\|`]+)", text::kGpt2Words, "[0-9][0-9][0-9]"};

struct Row {
  std::string_view name;
  GgufPreTokenizer pre;
};
const Row kRows[] = {
    {"default", {.expressions = kDefault}},
    {"gpt-2", {.expressions = kGpt2}},
    {"mpt", {.expressions = kGpt2}},
    {"olmo", {.expressions = kGpt2}},
    {"smollm", {.expressions = kDigitsThenGpt2}},
    {"starcoder", {.expressions = kDigitsThenGpt2}},
    {"refact", {.expressions = kDigitsThenGpt2}},
    {"command-r", {.expressions = kDigitsThenGpt2}},
    {"codeshell", {.expressions = kDigitsThenGpt2}},
    {"llama-bpe", {.expressions = kLlama3, .ignore_merges = true, .add_bos = true}},
    {"llama3", {.expressions = kLlama3, .ignore_merges = true, .add_bos = true}},
    {"llama-v3", {.expressions = kLlama3, .ignore_merges = true, .add_bos = true}},
    {"dbrx", {.expressions = kLlama3}},
    {"chatglm-bpe", {.expressions = kLlama3}},
    {"glm4", {.expressions = kLlama3}},
    {"qwen2", {.expressions = kQwen2, .nfc = true}},
    {"deepseek-r1-qwen", {.expressions = kQwen2, .nfc = true}},
    {"falcon", {.expressions = kFalcon}},
    {"deepseek-v3", {.expressions = kDeepseek3}},
    {"deepseek-llm", {.expressions = kDeepseekLlm}},
    {"deepseek-coder", {.expressions = kDeepseekCoder}},
};

}  // namespace

absl::StatusOr<GgufPreTokenizer> FindGgufPreTokenizer(std::string_view name) {
  if (name.empty()) name = "default";
  for (const Row& row : kRows) {
    if (row.name == name) return row.pre;
  }
  return absl::InvalidArgumentError(absl::StrFormat("tokenizer.ggml.pre is \"%s\", which is not supported", name));
}

}  // namespace berth::loader
