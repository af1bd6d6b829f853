#include "worker/text/output_parser.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"

namespace berth::text {
namespace {

using Kind = OutputPiece::Kind;

std::string Show(const std::vector<OutputPiece>& pieces) {
  std::string out;
  for (const OutputPiece& piece : pieces) {
    constexpr const char* kNames[] = {"text", "think", "call", "args"};
    const bool of_call = piece.kind == Kind::kCallName || piece.kind == Kind::kCallArguments;
    absl::StrAppend(&out, "[", kNames[static_cast<int>(piece.kind)], of_call ? absl::StrCat(piece.call) : "", ":", piece.text,
                    "]");
  }
  return out;
}

struct Case {
  ToolFormat format;
  std::string text, want;
  bool reasoning = true;
  bool opens_reasoning = false;
};

std::vector<OutputPiece> Parse(const Case& c, const std::vector<std::string_view>& parts) {
  OutputParser parser({.tools = c.format, .reasoning = c.reasoning}, c.opens_reasoning, {"f", "g"});
  std::vector<OutputPiece> pieces;
  for (const std::string_view part : parts) parser.Append(part, pieces);
  parser.Finish(pieces);
  return pieces;
}

const std::vector<Case>& Cases() {
  constexpr auto kNone = ToolFormat::kNone, kHermes = ToolFormat::kHermes, kLlama = ToolFormat::kLlama3;
  constexpr auto kIntern = ToolFormat::kInternLm2, kMistral = ToolFormat::kMistral;
  static const auto& cases = *new std::vector<Case>{
      {kNone, "plain <tool_call> text \n", "[text:plain <tool_call> text \n]"},
      {kNone, "<think>\nhm, <b>\n</think>\n\nyes", "[think:hm, <b>][text:yes]"},
      {kNone, "<think></think>yes", "[text:yes]"},
      {kNone, " \n<thin air", "[text: \n<thin air]"},
      {kNone, "hm\n</think>\n\nyes </think>", "[think:hm][text:yes </think>]", true, true},
      {kNone, "<think>cut off </thi", "[think:cut off </thi]"},
      {kNone, "<think>no</think>", "[text:<think>no</think>]", false},
      {kHermes, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": [1, \"}\\\"{\"]}}\n</tool_call>",
       "[call0:f][args0:{\"x\": [1, \"}\\\"{\"]}]"},
      {kHermes,
       "Let me see.\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n<tool_call>\n{\"arguments\": {\"y\":2}, "
       "\"name\": \"g\"}\n</tool_call>\nDone.",
       "[text:Let me see.][call0:f][args0:{}][call1:g][args1:{\"y\":2}][text:Done.]"},
      {kHermes, "<think>a\n</think>\n\n<tool_call>{\"name\":\"f\",\"arguments\":{\"q\":\"\xE6\xB5\xB7\"}}</tool_call>",
       "[think:a][call0:f][args0:{\"q\":\"\xE6\xB5\xB7\"}]"},
      {kHermes, "<tool_call>{\"name\":\"f\",\"arguments\":\"{\\\"a\\\": 1}\"}</tool_call>", "[call0:f][args0:{\"a\": 1}]"},
      {kHermes, "<tool_call>{\"name\":\"f\"}</tool_call>", "[call0:f][args0:{}]"},
      {kHermes, "<tool_call>{\"name\":\"f\",\"arguments\":null, \"more\": 1.5e3}</tool_call>", "[call0:f][args0:null]"},
      {kHermes, "a < b, a <tool b <tool_call> none </tool_call>", "[text:a < b, a <tool b <tool_call> none </tool_call>]"},
      {kHermes, "<tool_call>{\"arguments\": {}}</tool_call>", "[text:<tool_call>{\"arguments\": {}}</tool_call>]"},
      {kHermes, "<tool_call>{\"name\":\"f\",\"arguments\":{\"x\": 1}}}</tool_call> end",
       "[call0:f][args0:{\"x\": 1}][text:end]"},
      {kHermes, "<tool_call>{\"name\":\"f\",\"arguments\":{}}<tool_call>{\"name\":\"g\",\"arguments\":{}}",
       "[call0:f][args0:{}][call1:g][args1:{}]"},
      {kHermes, "<tool_call>{\"name\":\"f\",\"arguments\":{\"x\": \"cut", "[call0:f][args0:{\"x\": \"cut]"},
      {kHermes, "<tool_call>{\"na", "[text:<tool_call>{\"na]"},
      {kHermes, "two\n\nparagraphs <tool_ca", "[text:two\n\nparagraphs <tool_ca]"},
      {kLlama, "{\"name\": \"f\", \"parameters\": {\"x\": \"1\"}}", "[call0:f][args0:{\"x\": \"1\"}]"},
      {kLlama, "\n<|python_tag|>{\"name\": \"h\", \"parameters\": {}}; {\"name\": \"g\", \"parameters\": {\"y\": 0}}",
       "[call0:h][args0:{}][call1:g][args1:{\"y\": 0}]"},
      {kLlama, "{\"name\": \"Bob\", \"age\": 3}", "[text:{\"name\": \"Bob\", \"age\": 3}]"},
      {kLlama, "{1, 2}", "[text:{1, 2}]"},
      {kLlama, "See: {\"name\": \"f\", \"parameters\": {}}", "[text:See: {\"name\": \"f\", \"parameters\": {}}]"},
      {kIntern, "I look.<|action_start|><|plugin|>\n{\"name\": \"f\", \"parameters\": {\"x\": 1}}<|action_end|>\n",
       "[text:I look.][call0:f][args0:{\"x\": 1}]"},
      {kIntern, "<|action_start|><|interpreter|>\nprint(1)<|action_end|>",
       "[text:<|action_start|><|interpreter|>\nprint(1)<|action_end|>]"},
      {kMistral, "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"x\": 1}}, {\"name\": \"g\", \"arguments\": {}}]",
       "[call0:f][args0:{\"x\": 1}][call1:g][args1:{}]"},
      {kMistral, "ok [TOOL_CALLS]f[ARGS]{\"x\": {\"z\": 1}}[TOOL_CALLS]g[CALL_ID]123456789[ARGS]{}",
       "[text:ok][call0:f][args0:{\"x\": {\"z\": 1}}][call1:g][args1:{}]"},
      {kMistral, "[TOOL_CALLS]f{\"x\": 1}", "[call0:f][args0:{\"x\": 1}]"},
      {kMistral, "[TOOL_CALLS]no call here", "[text:[TOOL_CALLS]no call here]"},
      {kMistral, "[1, 2] [TOOL", "[text:[1, 2] [TOOL]"},
  };
  return cases;
}

TEST(OutputParserTest, TellsCallsFromTextWhereverItIsCut) {
  for (const Case& c : Cases()) {
    const std::string_view text = c.text;
    EXPECT_EQ(Show(Parse(c, {text})), c.want);
    for (size_t cut = 0; cut <= text.size(); ++cut) {
      EXPECT_EQ(Show(Parse(c, {text.substr(0, cut), text.substr(cut)})), c.want) << cut;
    }
    std::vector<std::string_view> bytes;
    for (size_t i = 0; i < text.size(); ++i) bytes.push_back(text.substr(i, 1));
    EXPECT_EQ(Show(Parse(c, bytes)), c.want);
  }
}

TEST(OutputParserTest, TextAndArgumentsAreNotHeldBackForLong) {
  OutputParser parser({.tools = ToolFormat::kHermes}, false, {"f"});
  std::vector<OutputPiece> pieces;
  parser.Append("Well", pieces);
  EXPECT_EQ(Show(pieces), "[text:Well]");
  parser.Append("<tool_call>{\"name\":\"f\",\"arguments\":{\"x\": \"lo", pieces);
  EXPECT_EQ(Show(pieces), "[text:Well][call0:f][args0:{\"x\": \"lo]");
}

TEST(OutputParserTest, AForcedCallGoesOnFromItsOpening) {
  for (const ToolFormat format : {ToolFormat::kHermes, ToolFormat::kLlama3, ToolFormat::kInternLm2, ToolFormat::kMistral}) {
    EXPECT_EQ(Show(Parse({.format = format}, {CallOpening(format, "f"), " {\"x\": 1}}"})), "[call0:f][args0:{\"x\": 1}]");
  }
}

TEST(OutputFormatTest, ATemplateShowsIt) {
  const std::pair<const char*, ToolFormat> marks[] = {
      {"{{ '<tool_call>' }}", ToolFormat::kHermes},
      {"[TOOL_CALLS] {{ x }}", ToolFormat::kMistral},
      {"<|action_start|><|plugin|>", ToolFormat::kInternLm2},
      {"<|start_header_id|> {\"name\": n, \"parameters\": d}", ToolFormat::kLlama3},
      {"{{ message.content }}", ToolFormat::kNone}};
  for (const auto& [source, format] : marks) EXPECT_EQ(DetectOutputFormat(source).tools, format) << source;
  EXPECT_TRUE(DetectOutputFormat("x.split('</think>')").reasoning);
  EXPECT_FALSE(DetectOutputFormat("{{ x }}").reasoning);
  EXPECT_EQ(ParseToolFormat("mistral"), ToolFormat::kMistral);
  EXPECT_EQ(ParseToolFormat("auto"), std::nullopt);
}

}  // namespace
}  // namespace berth::text
