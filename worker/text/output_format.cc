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

std::string CallOpening(ToolFormat format, std::string_view name) {
  switch (format) {
    case ToolFormat::kNone:
      return "";
    case ToolFormat::kHermes:
      return std::string("<tool_call>\n{\"name\": \"").append(name).append("\", \"arguments\":");
    case ToolFormat::kLlama3:
      return std::string("{\"name\": \"").append(name).append("\", \"parameters\":");
    case ToolFormat::kInternLm2:
      return std::string("<|action_start|><|plugin|>\n{\"name\": \"").append(name).append("\", \"parameters\":");
    case ToolFormat::kMistral:
      return std::string("[TOOL_CALLS][{\"name\": \"").append(name).append("\", \"arguments\":");
  }
  return "";
}

}  // namespace berth::text
