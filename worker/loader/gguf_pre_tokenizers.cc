#include "worker/loader/gguf_pre_tokenizers.h"

#include "absl/status/status.h"
#include "absl/strings/str_format.h"

namespace berth::loader {
namespace {

#define BERTH_GPT2_WORDS R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)"
#define BERTH_LLAMA3_BEFORE_DIGITS R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)"
#define BERTH_LLAMA3_AFTER_DIGITS R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"

constexpr const char* kGpt2[] = {BERTH_GPT2_WORDS};
constexpr const char* kDefault[] = {R"([\p{P}\$\+<=>\^~\|]+)", BERTH_GPT2_WORDS, R"(\p{N}+)", "[0-9][0-9][0-9]"};
constexpr const char* kDigitsThenGpt2[] = {R"(\p{N})", BERTH_GPT2_WORDS};
constexpr const char* kLlama3[] = {BERTH_LLAMA3_BEFORE_DIGITS R"(\p{N}{1,3})" BERTH_LLAMA3_AFTER_DIGITS};
constexpr const char* kQwen2[] = {BERTH_LLAMA3_BEFORE_DIGITS R"(\p{N})" BERTH_LLAMA3_AFTER_DIGITS};
constexpr const char* kDeepseekLlm[] = {
    R"([\r\n])",
    "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-"
    "ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼ"
    "ℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-"
    "𐳲𑢠-𑣟𞤀-𞥃]+",
    "\\s?[!-/:-~！-／：-～‘-‟　-。]+",
    R"(\s+$)",
    "[一-龥ࠀ-一가-퟿]+",
    R"(\p{N}+)",
};
constexpr const char* kDeepseekCoder[] = {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)", "[一-龥ࠀ-一가-퟿]+", R"(\p{N})"};

#undef BERTH_GPT2_WORDS
#undef BERTH_LLAMA3_BEFORE_DIGITS
#undef BERTH_LLAMA3_AFTER_DIGITS

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
    {"qwen2", {.expressions = kQwen2, .nfc = true}},
    {"deepseek-r1-qwen", {.expressions = kQwen2, .nfc = true}},
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
