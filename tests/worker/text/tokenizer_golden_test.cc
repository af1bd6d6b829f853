#include <filesystem>
#include <string>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/text/golden.h"
#include "worker/loader/gguf.h"
#include "worker/loader/gguf_tokenizer_keys.h"
#include "worker/loader/tiktoken.h"
#include "worker/loader/tokenizer_json.h"
#include "worker/text/infill.h"

namespace berth::text {
namespace {

class TokenizerJsonGolden : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerJsonGolden, EncodesAndDecodesAsTheOriginal) {
  const std::string name = GetParam();
  auto data = loader::ParseTokenizerJson(ReadGolden(name + ".json"), "");
  ASSERT_TRUE(data.ok()) << data.status();
  const auto tokenizer = MakeTokenizer(*std::move(data));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectGoldenIds(**tokenizer, name, {});
  ExpectGoldenTexts(**tokenizer, name, /*always_skip=*/false);
}

INSTANTIATE_TEST_SUITE_P(Pipelines, TokenizerJsonGolden,
                         testing::Values("gpt2", "llama3", "qwen2", "smollm", "metaspace", "steps", "llama2", "unigram",
                                         "unigram_bytes"),
                         [](const auto& info) { return info.param; });

class SentencePieceGolden : public testing::TestWithParam<const char*> {};

TEST_P(SentencePieceGolden, EncodesAndDecodesAsTheOriginal) {
  const std::string name = GetParam();
  auto data = loader::ParseSentencePiece(ReadGolden(name + ".model"), "");
  ASSERT_TRUE(data.ok()) << data.status();
  const auto tokenizer = MakeTokenizer(*std::move(data));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectGoldenIds(**tokenizer, name, {.add_special = false, .parse_special = false});
  ExpectGoldenTexts(**tokenizer, name, /*always_skip=*/true);
}

INSTANTIATE_TEST_SUITE_P(Models, SentencePieceGolden, testing::Values("sp_bpe", "sp_unigram"),
                         [](const auto& info) { return info.param; });

// A turn as the built-in template of the family shows it.
struct ChatClass {
  const char* name;
  const char* model;
  const char* tokenizer_config;
  const char* before;
  const char* after;
};

class ChatClassGolden : public testing::TestWithParam<ChatClass> {};

TEST_P(ChatClassGolden, EncodesATurnAndDecodesAsTheOriginal) {
  const ChatClass& chat = GetParam();
  auto data = loader::ParseSentencePiece(ReadGolden(chat.model), chat.tokenizer_config);
  ASSERT_TRUE(data.ok()) << data.status();
  const auto tokenizer = MakeTokenizer(*std::move(data));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectGoldenIds(**tokenizer, chat.name, {.add_special = false}, chat.before, chat.after);
  ExpectGoldenTexts(**tokenizer, chat.name, /*always_skip=*/true);
}

INSTANTIATE_TEST_SUITE_P(Classes, ChatClassGolden,
                         testing::Values(ChatClass{"chatglm3", "sp_bpe.model", R"({"tokenizer_class": "ChatGLMTokenizer"})",
                                                   "[gMASK]sop<|user|>\n ", "<|assistant|>"},
                                         ChatClass{
                                             "chatglm2", "sp_bpe.model",
                                             R"({"tokenizer_class": "ChatGLMTokenizer", "name_or_path": "THUDM/chatglm2-6b"})",
                                             "[gMASK]sop[Round 1]\n\n问：", "\n\n答："},
                                         ChatClass{"internlm", "sp_bpe.model",
                                                   R"({"tokenizer_class": "InternLMTokenizer", "added_tokens_decoder": {
                                  "1800": {"content": "<eoh>", "special": true},
                                  "1801": {"content": "<eoa>", "special": true}}})",
                                                   "<s><|User|>:", "<eoh>\n<|Bot|>:"},
                                         ChatClass{"baichuan", "baichuan.model",
                                                   R"({"tokenizer_class": "BaichuanTokenizer", "add_bos_token": false})",
                                                   "<reserved_106>", "<reserved_107>"}),
                         [](const auto& info) { return info.param.name; });

TEST(TiktokenGolden, EncodesAndDecodesAsTheOriginal) {
  auto data = loader::ParseTiktoken(ReadGolden("qwen.tiktoken"), R"({"tokenizer_class": "QWenTokenizer"})");
  ASSERT_TRUE(data.ok()) << data.status();
  const auto tokenizer = MakeTokenizer(*std::move(data));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectGoldenIds(**tokenizer, "qwen", {});
  ExpectGoldenTexts(**tokenizer, "qwen", /*always_skip=*/false);
  EXPECT_EQ((*tokenizer)->IdOf("<|im_end|>"), (*tokenizer)->IdOf("<|endoftext|>") + 2);
}

// GLM-4's file has the ranks, its configuration the special tokens; every text begins with two of them.
TEST(TiktokenGolden, Glm4EncodesAndDecodesAsTheOriginal) {
  const auto qwen = loader::ParseTiktoken(ReadGolden("qwen.tiktoken"), "");
  ASSERT_TRUE(qwen.ok()) << qwen.status();
  auto id = static_cast<int32_t>(qwen->pieces.size());
  std::vector<std::string> entries;
  for (const char* name : {"<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", "<|system|>", "<|user|>",
                           "<|assistant|>", "<|observation|>"}) {
    entries.push_back(absl::StrFormat(R"("%d": {"content": "%s", "special": true})", id++, name));
  }
  const std::string config = absl::StrFormat(R"({"tokenizer_class": "ChatGLM4Tokenizer", "eos_token": "<|endoftext|>",
                                                 "added_tokens_decoder": {%s}})",
                                             absl::StrJoin(entries, ", "));
  auto data = loader::ParseTiktoken(ReadGolden("qwen.tiktoken"), config);
  ASSERT_TRUE(data.ok()) << data.status();
  const auto tokenizer = MakeTokenizer(*std::move(data));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectGoldenIds(**tokenizer, "glm4", {});
  ExpectGoldenTexts(**tokenizer, "glm4", /*always_skip=*/false);
}

// The ids are what CodeLlama's published code makes with sentencepiece: what is behind gets no space in front.
TEST(InfillGolden, CodeLlamasPromptIsThatOfItsAuthors) {
  auto data = loader::ParseSentencePiece(ReadGolden("sp_bpe.model"), "");
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_FALSE(FindInfillFormat(*MakeTokenizer(*data).value()).has_value());
  for (const char* name : {"▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"}) {
    const auto id = static_cast<int32_t>(1800 + data->added_tokens.size());
    data->added_tokens.push_back({.id = id, .content = name, .special = true});
  }
  const auto tokenizer = MakeTokenizer(*std::move(data));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::optional<InfillFormat> format = FindInfillFormat(**tokenizer);
  ASSERT_TRUE(format.has_value());
  EXPECT_EQ(format->end, 1803);
  EXPECT_THAT(*EncodeInfill(**tokenizer, *format, "def f(x):\n    ", "\n    return y"),
              testing::ElementsAre(1, 1800, 960, 835, 428, 1037, 997, 1036, 994, 966, 502, 1801, 966, 502, 757, 551, 1802));
  EXPECT_THAT(*EncodeInfill(**tokenizer, *format, "a", ""), testing::ElementsAre(1, 1800, 458, 1801, 1802));
  EXPECT_THAT(*EncodeInfill(**tokenizer, *format, "", " tail"), testing::ElementsAre(1, 1800, 1801, 960, 961, 959, 310, 1802));
  EXPECT_EQ(EncodeInfill(**tokenizer, *format, "a", "\xff").status().code(), absl::StatusCode::kInvalidArgument);
}

// The pieces and scores of sp_bpe.model, as a GGUF file holds them.
loader::GgufTokenizerMetadata SentencePieceAsGguf() {
  enum { kNormal = 1, kUnknown = 2, kControl = 3, kByte = 6 };
  loader::GgufTokenizerMetadata metadata{.model = "llama", .bos_token_id = 1, .eos_token_id = 2, .unknown_token_id = 0};
  for (const std::string& line : ReadGoldenLines("sp_bpe.vocab")) {
    const size_t tab = line.rfind('\t');
    const std::string piece = line.substr(0, tab);
    const bool is_byte = piece.size() == 6 && piece.starts_with("<0x");
    metadata.token_type.push_back(piece == "<unk>"                    ? kUnknown
                                  : piece == "<s>" || piece == "</s>" ? kControl
                                  : is_byte                           ? kByte
                                                                      : kNormal);
    metadata.tokens.push_back(piece);
    metadata.scores.push_back(std::strtof(line.c_str() + tab + 1, nullptr));
  }
  return metadata;
}

TEST(GgufGolden, MergingByScoresIsSentencePiece) {
  auto data = loader::ParseGgufTokenizer(SentencePieceAsGguf());
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(data->prefix_ids, std::vector<int32_t>{1});
  const auto tokenizer = MakeTokenizer(*std::move(data));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectGoldenIds(**tokenizer, "sp_bpe", {.add_special = false, .parse_special = false});
}

TEST(GgufGolden, DemoModelEncodesAndDecodesAsTheOriginal) {
  std::error_code error;
  std::string path;
  for (const auto& entry : std::filesystem::directory_iterator(".cache/models", error)) {
    if (entry.path().extension() == ".gguf") path = entry.path().string();
  }
  if (path.empty()) GTEST_SKIP() << "no .cache/models/*.gguf: deploy/quickstart downloads the demo model";

  const auto file = loader::MappedFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  const auto parsed = loader::ParseGguf((*file)->bytes());
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const auto metadata = loader::TranslateGgufTokenizer(parsed->metadata);
  ASSERT_TRUE(metadata.ok()) << metadata.status();
  auto data = loader::ParseGgufTokenizer(*metadata);
  ASSERT_TRUE(data.ok()) << data.status();
  const auto tokenizer = MakeTokenizer(*std::move(data));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectGoldenIds(**tokenizer, "demo", {});
  ExpectGoldenTexts(**tokenizer, "demo", /*always_skip=*/false);
}

}  // namespace
}  // namespace berth::text
