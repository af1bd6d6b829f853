#include "worker/text/output_format.h"

namespace berth::text {

OutputFormat DetectOutputFormat(std::string_view chat_template) {
  const auto has = [&](std::string_view mark) { return chat_template.find(mark) != std::string_view::npos; };
  OutputFormat format{.reasoning = has("</think>")};
  if (has("[TOOL_CALLS]")) {
    format.tools = ToolFormat::kMistral;
  } else if (has("<|action_start|>") || has("<|plugin|>")) {
    format.tools = ToolFormat::kInternLm2;
  } else if (has("<tool_call>")) {
    format.tools = ToolFormat::kHermes;
  } else if (has("<|python_tag|>") || (has("<|start_header_id|>") && has("\"parameters\""))) {
    format.tools = ToolFormat::kLlama3;
  }
  return format;
}

std::optional<ToolFormat> ParseToolFormat(std::string_view name) {
  if (name == "none") return ToolFormat::kNone;
  if (name == "hermes") return ToolFormat::kHermes;
  if (name == "llama3") return ToolFormat::kLlama3;
  if (name == "internlm2") return ToolFormat::kInternLm2;
  if (name == "mistral") return ToolFormat::kMistral;
  return std::nullopt;
}

bool MarksAreSpecial(ToolFormat format) { return format != ToolFormat::kNone && format != ToolFormat::kHermes; }

CallSpelling SpellingOf(ToolFormat format) {
  switch (format) {
    case ToolFormat::kNone:
      return {};
    case ToolFormat::kHermes:
      return {"<tool_call>\n{\"name\": \"", "\", \"arguments\":", "}\n</tool_call>\n<tool_call>\n{\"name\": \"",
              "}\n</tool_call>"};
    case ToolFormat::kLlama3:
      return {"{\"name\": \"", "\", \"parameters\":", "}; {\"name\": \"", "}"};
    case ToolFormat::kInternLm2:  // the mark behind a call is a special token
      return {"<|action_start|><|plugin|>\n{\"name\": \"", "\", \"parameters\":", "", "}"};
    case ToolFormat::kMistral:
      return {"[TOOL_CALLS][{\"name\": \"", "\", \"arguments\":", "}, {\"name\": \"", "}]"};
  }
  return {};
}

std::string CallOpening(ToolFormat format, std::string_view name) {
  const CallSpelling spelling = SpellingOf(format);
  return name.empty() ? spelling.begin : std::string(spelling.begin).append(name).append(spelling.arguments);
}

}  // namespace berth::text
