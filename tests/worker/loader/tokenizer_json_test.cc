#include "worker/loader/tokenizer_json.h"

#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/escaping.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/worker/text/golden.h"
#include "worker/loader/tiktoken.h"
#include "worker/text/builtin_templates.h"
#include "worker/text/tokenizer.h"

namespace berth::loader {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

json Minimal() {
  return json::parse(R"({
    "added_tokens": [{"id": 4, "content": "<s>", "special": true}],
    "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
    "post_processor": null,
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"h": 0, "i": 1, "hi": 2, "Ġ": 3}, "merges": ["h i"]}})");
}

void ExpectRefused(const json& file, const std::string& words, const std::string& config = "") {
  const auto data = ParseTokenizerJson(file.dump(), config);
  EXPECT_EQ(data.status().code(), absl::StatusCode::kInvalidArgument) << words;
  EXPECT_THAT(data.status().message(), HasSubstr(words));
}

// The same file with one field (a JSON pointer) changed.
json With(const std::string& pointer, json value) {
  json file = Minimal();
  file[json::json_pointer(pointer)] = std::move(value);
  return file;
}

TEST(TokenizerJsonTest, ReadsFileAndConfig) {
  const auto data = ParseTokenizerJson(Minimal().dump(), R"({"bos_token": {"content": "<s>"}, "eos_token": "hi",
      "chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]})");
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(data->bos_id, 4);
  EXPECT_EQ(data->eos_id, 2);
  EXPECT_THAT(data->generation_eos_ids, ElementsAre(2));
  EXPECT_EQ(data->chat_template, "D");
  const auto tokenizer = text::MakeTokenizer(*data);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_THAT(*(*tokenizer)->Encode("<s>hi hi", {}), ElementsAre(4, 2, 3, 2));
}

// Those classes put the first token before a text themselves, whatever tokenizer.json says.
TEST(TokenizerJsonTest, TakesAddBosTokenOfClassesThatHeedIt) {
  const auto encode = [](const json& file, const std::string& rest) {
    const auto data = ParseTokenizerJson(file.dump(), R"({"bos_token": "<s>", )" + rest + "}");
    return (*text::MakeTokenizer(data.value()))->Encode("hi", {}).value();
  };
  EXPECT_THAT(encode(Minimal(), R"("tokenizer_class": "LlamaTokenizerFast", "add_bos_token": true)"), ElementsAre(4, 2));
  EXPECT_THAT(encode(Minimal(), R"("tokenizer_class": "GemmaTokenizer", "add_bos_token": true)"), ElementsAre(4, 2));
  EXPECT_THAT(encode(Minimal(), R"("tokenizer_class": "LlamaTokenizer", "add_bos_token": false)"), ElementsAre(2));
  EXPECT_THAT(encode(Minimal(), R"("tokenizer_class": "LlamaTokenizer")"), ElementsAre(2));
  EXPECT_THAT(encode(Minimal(), R"("tokenizer_class": "Qwen2Tokenizer", "add_bos_token": true)"), ElementsAre(2));
  const json once = With("/post_processor", json::parse(R"({"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
      "special_tokens": {"<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]}}})"));
  EXPECT_THAT(encode(once, R"("tokenizer_class": "LlamaTokenizer", "add_bos_token": true)"), ElementsAre(4, 2));
}

TEST(TokenizerJsonTest, UnigramFieldsAreChecked) {
  json file = Minimal();
  file["decoder"] = file["pre_tokenizer"] = nullptr;
  file["decoder"] = {{"type", "Metaspace"}, {"replacement", "_"}};
  file["model"] = {
      {"type", "Unigram"}, {"unk_id", 0}, {"vocab", json::parse(R"([["?", 0], ["a", -1], ["b", -2], ["ab", -2.5]])")}};
  const auto data = ParseTokenizerJson(file.dump(), "");
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_THAT(*(*text::MakeTokenizer(*data))->Encode("abbxya", {}), ElementsAre(3, 2, 0, 1));
  for (const auto& [pointer, value, words] : {std::tuple("/model/unk_id", json(4), "unk_id is 4"),
                                              {"/model/vocab/1", json("a"), "vocab[1] is not a piece"},
                                              {"/model/vocab/1/1", json("x"), "vocab[1] is not a piece"},
                                              {"/model/vocab", json(1), "vocab is not an array"}}) {
    json bad = file;
    bad[json::json_pointer(pointer)] = value;
    ExpectRefused(bad, words);
  }
  file["model"].erase("unk_id");
  const auto strict = text::MakeTokenizer(*ParseTokenizerJson(file.dump(), ""));
  EXPECT_THAT(std::string((*strict)->Encode("ax", {}).status().message()), HasSubstr("no token for \"x\""));
}

// The ids that the model's own Python code gives: the special tokens follow the pieces, and [gMASK] sop is put before a text.
TEST(SentencePieceTest, ChatGlmHasItsSpecialTokens) {
  const auto data = ParseSentencePiece(text::ReadGolden("sp_bpe.model"), R"({"tokenizer_class": "ChatGLMTokenizer"})");
  const auto plain = text::MakeTokenizer(*ParseSentencePiece(text::ReadGolden("sp_bpe.model"), "")).value();
  const auto glm = text::MakeTokenizer(*data).value();
  const int32_t first = plain->size();
  EXPECT_EQ(glm->IdOf("[MASK]"), first);
  EXPECT_EQ(glm->IdOf("<|observation|>"), first + 8);
  std::vector<int32_t> want = plain->Encode("Hello", {.add_special = false}).value();
  want.insert(want.begin(), {first + 1, first + 3});
  EXPECT_EQ(glm->Encode("Hello", {}).value(), want);
  EXPECT_EQ(glm->eos_id(), plain->eos_id());
  const auto glm2 = text::MakeTokenizer(*ParseSentencePiece(text::ReadGolden("sp_bpe.model"), R"({
      "tokenizer_class": "ChatGLMTokenizer", "name_or_path": "THUDM/chatglm2-6b-32k"})"))
                        .value();
  EXPECT_EQ(glm2->size(), first + 5) << "which has no tokens for roles, so that its own template is chosen";
  EXPECT_EQ(text::BuiltinTemplateOf("chatglm", [&](std::string_view token) { return glm2->IdOf(token) >= 0; }), "chatglm2");
  EXPECT_EQ(text::BuiltinTemplateOf("chatglm", [&](std::string_view token) { return glm->IdOf(token) >= 0; }), "chatglm3");
}

TEST(TiktokenTest, BadLinesAreNamed) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) {
    bytes += absl::Base64Escape(std::string(1, static_cast<char>(byte))) + " " + std::to_string(byte) + "\n";
  }
  EXPECT_TRUE(ParseTiktoken(bytes, "").ok());
  for (const auto& [text, words] : {std::pair<std::string, const char*>{"", "no tokens"},
                                    {bytes.substr(7), "no token for the byte 0x00"},
                                    {bytes + "!!! 256\n", "line 257 is"},
                                    {bytes + "YWI= x\n", "line 257 is"},
                                    {bytes + "YWI= -1\n", "line 257 is"},
                                    {bytes + "YWI=\n", "line 257 is"},
                                    {bytes + "YWI= 7\n", "rank 7 occurs twice"},
                                    {bytes + "YQ== 256\n", "rank 256 has a lower rank too"}}) {
    EXPECT_THAT(std::string(ParseTiktoken(text, "").status().message()), HasSubstr(words));
  }
  EXPECT_THAT(std::string(ParseTiktoken(bytes, R"({"tokenizer_class": "OtherTokenizer"})").status().message()),
              HasSubstr("\"OtherTokenizer\""));
  EXPECT_THAT(std::string(ParseTiktoken(bytes, R"({"tokenizer_class": "ChatGLM4Tokenizer"})").status().message()),
              HasSubstr("lacks [gMASK]"));
  const auto glm = ParseTiktoken(bytes, R"({"tokenizer_class": "ChatGLM4Tokenizer", "added_tokens_decoder": {
      "256": {"content": "[gMASK]", "special": true}, "257": {"content": "<sop>", "special": true}}})");
  EXPECT_THAT(*(*text::MakeTokenizer(*glm))->Encode("ab", {}), ElementsAre(256, 257, 'a', 'b'));
}

TEST(TokenizerJsonTest, MergesMayBePairs) {
  const auto data = ParseTokenizerJson(With("/model/merges", json::array({json::array({"h", "i"})})).dump(), "");
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(data->merges.size(), 1u);
}

TEST(TokenizerJsonTest, NamesWhatIsNotSupported) {
  ExpectRefused(With("/model/type", "WordPiece"), "model.type is \"WordPiece\"");
  ExpectRefused(With("/model/dropout", 0.1), "model.dropout");
  ExpectRefused(With("/model/end_of_word_suffix", "</w>"), "model.end_of_word_suffix is \"</w>\"");
  ExpectRefused(With("/normalizer", {{"type", "BertNormalizer"}}), "normalizer.type is \"BertNormalizer\"");
  ExpectRefused(With("/pre_tokenizer", {{"type", "UnicodeScripts"}}), "pre_tokenizer.type is \"UnicodeScripts\"");
  ExpectRefused(With("/post_processor", {{"type", "BertProcessing"}}), "post_processor.type is \"BertProcessing\"");
  ExpectRefused(With("/decoder", {{"type", "CTC"}}), "decoder.type is \"CTC\"");
  ExpectRefused(With("/decoder", nullptr), "decoder is absent");
  ExpectRefused(With("/decoder", {{"type", "Sequence"}, {"decoders", {{{"type", "Fuse"}}}}}), "decoder is a sequence");
  const json digits = {{"type", "Digits"}, {"individual_digits", true}};
  const json byte_level = {{"type", "ByteLevel"}};
  ExpectRefused(With("/pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {byte_level, digits}}}),
                "pre_tokenizer.pretokenizers[1].type is \"Digits\", but nothing may follow ByteLevel");
}

TEST(TokenizerJsonTest, NamesTheFieldThatIsWrong) {
  ExpectRefused(json::array(), "tokenizer.json is not an object");
  ExpectRefused(With("/model", 3), "tokenizer.json.model is not an object");
  ExpectRefused(With("/model/vocab", json::array()), "vocab is not an object");
  ExpectRefused(With("/model/vocab/hi", "two"), "vocab.hi is not an integer");
  ExpectRefused(With("/model/vocab/hi", -1), "vocab.hi is -1");
  ExpectRefused(With("/model/vocab/hi", 1), "has id 1");
  ExpectRefused(With("/model/vocab/hi", 18446744073709551615u), "vocab.hi does not fit");
  ExpectRefused(With("/model/merges", "h i"), "merges is not an array");
  ExpectRefused(With("/model/merges/0", "h"), "merges[0] is \"h\"");
  ExpectRefused(With("/model/merges/0", "h x"), "merges[0] is \"h x\", which names a piece that is not in the vocabulary");
  ExpectRefused(With("/model/merges/0", {"h"}), "merges[0] is not a pair");
  ExpectRefused(With("/model/unk_token", "<unk>"), "unk_token \"<unk>\" is not in the vocabulary");
  ExpectRefused(With("/model/byte_fallback", "yes"), "byte_fallback is not a boolean");
  ExpectRefused(With("/added_tokens/0", "x"), "added_tokens[0] is not an object");
  ExpectRefused(With("/added_tokens/0/id", 1.5), "added_tokens[0].id is not an integer");
  ExpectRefused(With("/added_tokens/0/content", ""), "added_tokens[0].content is empty");
  ExpectRefused(With("/pre_tokenizer", {{"type", "Split"}, {"pattern", {{"String", "x"}}}, {"behavior", "Sideways"}}),
                "Sideways");
  ExpectRefused(With("/pre_tokenizer", {{"type", "Split"}, {"behavior", "Isolated"}}),
                "pre_tokenizer.pattern is not an object");
  ExpectRefused(Minimal(), "tokenizer_config.json.bos_token is \"<none>\"", R"({"bos_token": "<none>"})");
  ExpectRefused(Minimal(), "tokenizer_config.json is not JSON", "{");
}

TEST(TokenizerJsonTest, DeepNestingIsAnError) {
  json step = {{"type", "Digits"}};
  for (int i = 0; i < 20; ++i) step = {{"type", "Sequence"}, {"pretokenizers", json::array({step})}};
  ExpectRefused(With("/pre_tokenizer", step), "nested too deep");
  const std::string brackets(1'000'000, '[');
  EXPECT_EQ(ParseTokenizerJson(brackets, "").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(TokenizerJsonTest, EveryTruncationAndManyFlippedBytesEndInAStatus) {
  const std::string file = Minimal().dump();
  for (size_t size = 0; size < file.size(); ++size) {
    EXPECT_EQ(ParseTokenizerJson(file.substr(0, size), "").status().code(), absl::StatusCode::kInvalidArgument) << size;
  }
  std::mt19937 random(7);
  for (int i = 0; i < 5000; ++i) {
    std::string flipped = file;
    flipped[random() % flipped.size()] = static_cast<char>(random());
    auto data = ParseTokenizerJson(flipped, "");
    if (!data.ok()) continue;
    const auto tokenizer = text::MakeTokenizer(*std::move(data));
    if (tokenizer.ok()) (void)(*tokenizer)->Encode("hi <s> hi", {});
  }
}

TEST(SentencePieceConfigTest, TakesAddedTokensAndFlags) {
  const auto data = ParseSentencePiece(text::ReadGolden("sp_bpe.model"), R"({"add_bos_token": false, "add_eos_token": true,
      "legacy": false, "eos_token": "<end>", "chat_template": "C",
      "added_tokens_decoder": {"1800": {"content": "<end>", "special": true}}})");
  ASSERT_TRUE(data.ok()) << data.status();
  const auto tokenizer = text::MakeTokenizer(*data);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->size(), 1801);
  EXPECT_EQ((*tokenizer)->eos_id(), 1800);
  EXPECT_EQ((*tokenizer)->bos_id(), 1);  // the model's own
  const int32_t a = (*tokenizer)->IdOf("a");
  const int32_t space = (*tokenizer)->IdOf("▁a");
  EXPECT_THAT(*(*tokenizer)->Encode("a<end>a", {}), ElementsAre(space, 1800, a, 1800));  // the prefix only at the start
}

TEST(SentencePieceConfigTest, ByDefaultThePrefixFollowsEveryAddedToken) {
  const auto data = ParseSentencePiece(text::ReadGolden("sp_bpe.model"), "");
  ASSERT_TRUE(data.ok()) << data.status();
  const auto tokenizer = text::MakeTokenizer(*data);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const int32_t space = (*tokenizer)->IdOf("▁a");
  EXPECT_THAT(*(*tokenizer)->Encode("a</s>a", {}), ElementsAre(1, space, 2, space));
}

TEST(SentencePieceConfigTest, NamesTheFieldThatIsWrong) {
  const auto status_of = [](const std::string& config) { return ParseSentencePiece("", config).status(); };
  EXPECT_THAT(status_of(R"({"added_tokens_decoder": {"x": {"content": "a"}}})").message(), HasSubstr("added_tokens_decoder.x"));
  EXPECT_THAT(status_of(R"({"legacy": 1})").message(), HasSubstr("legacy is not a boolean"));
  EXPECT_THAT(status_of("[]").message(), HasSubstr("not an object"));
}

}  // namespace
}  // namespace berth::loader
