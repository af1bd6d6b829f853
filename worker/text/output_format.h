#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace berth::text {

// How a model spells tool calls.
enum class ToolFormat {
  kNone,
  kHermes,     // <tool_call>{"name": …, "arguments": …}</tool_call>; Qwen, too
  kLlama3,     // {"name": …, "parameters": …}; the whole answer, several joined by ";"
  kInternLm2,  // <|action_start|><|plugin|>{"name": …, "parameters": …}<|action_end|>
  kMistral,    // [TOOL_CALLS][{"name": …, "arguments": …}, …], or [TOOL_CALLS]name[ARGS]{…} for each
};

// What a model's answers hold beside text.
struct OutputFormat {
  ToolFormat tools = ToolFormat::kNone;
  // An answer may begin with <think>…</think>.
  bool reasoning = false;
};

// The format whose marks a chat template writes.
OutputFormat DetectOutputFormat(std::string_view chat_template);

// "none", "hermes", "llama3", "internlm2" or "mistral"; nothing for others.
std::optional<ToolFormat> ParseToolFormat(std::string_view name);

// The format's marks are special tokens, which a detokenizer would leave out.
bool MarksAreSpecial(ToolFormat format);

// How an answer of nothing but calls is written: `begin` name `arguments` {…}, then `next` name `arguments` {…} as often as the
// model likes, then `end`. All but `begin` is plain text. Empty when the format is kNone.
struct CallSpelling {
  std::string begin, arguments;
  std::string next;  // "": there is one call only
  std::string end;
};
CallSpelling SpellingOf(ToolFormat format);

// How an answer begins that calls `name`, up to the arguments; up to the name when that is "".
std::string CallOpening(ToolFormat format, std::string_view name);

}  // namespace berth::text
