#include "gateway/http/tool_fields.h"

#include <algorithm>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace berth::http {
namespace {

using json = nlohmann::ordered_json;

constexpr size_t kMaxTools = 128;
constexpr size_t kMaxNameBytes = 64;
// Keys are compared with each other where their order counts.
constexpr size_t kMaxKeys = 1024;

size_t LargestObject(const json& value) {
  size_t largest = value.is_object() ? value.size() : 0;
  if (!value.is_structured()) return 0;
  for (const json& item : value) largest = std::max(largest, LargestObject(item));
  return largest;
}

void CheckName(JsonFields& tool) {
  const std::string name = tool.String("name").value_or("");
  const auto plain = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.';
  };
  if (name.empty()) return tool.Fail("name", "is required");
  if (name.size() > kMaxNameBytes || !std::all_of(name.begin(), name.end(), plain)) {
    tool.Fail("name", absl::StrCat("is \"", name.substr(0, kMaxNameBytes), "\", want at most ", kMaxNameBytes,
                                   " of letters, digits, '_', '-' and '.'"));
  }
}

void CheckFunction(JsonFields& function, const char* parameters) {
  CheckName(function);
  function.String("description");
  function.Object(parameters);
}

void CheckTool(JsonFields& tool, ToolStyle style) {
  const std::string type = tool.String("type").value_or(style == ToolStyle::kMessages ? "custom" : "");
  const char* wanted = style == ToolStyle::kMessages ? "custom" : "function";
  if (type != wanted) tool.Fail("type", absl::StrCat("is \"", type, "\", only ", wanted, " is supported"));
  if (style != ToolStyle::kChat) return CheckFunction(tool, style == ToolStyle::kMessages ? "input_schema" : "parameters");
  const json* function = tool.Object("function");
  if (function == nullptr) return tool.Fail("function", "is required");
  JsonFields inner(*function, tool.PathOf("function"));
  CheckFunction(inner, "parameters");
  tool.Take(inner);
}

// As templates expect them.
std::string Schema(const json& tool, ToolStyle style) {
  if (style == ToolStyle::kChat) return tool.dump();
  json function;
  for (const auto& [from, to] : {std::pair("name", "name"),
                                 {"description", "description"},
                                 {"parameters", "parameters"},
                                 {"input_schema", "parameters"}}) {
    if (tool.contains(from) && !tool[from].is_null()) function[to] = tool[from];
  }
  return json{{"type", "function"}, {"function", std::move(function)}}.dump();
}

// True for at most one call.
bool ReadChoice(JsonFields& fields, ToolStyle style, v1::ChatPrompt& chat) {
  const json* value = fields.Find("tool_choice");
  if (value == nullptr) return false;
  std::string type = value->is_string() ? value->get<std::string>() : "", forced;
  bool single = false;
  if (value->is_object()) {
    JsonFields choice(*value, "tool_choice");
    type = choice.String("type").value_or("");
    const json* function = style == ToolStyle::kChat ? choice.Object("function") : value;
    if (function != nullptr) forced = JsonFields(*function).String("name").value_or("");
    single = choice.Bool("disable_parallel_tool_use").value_or(false);
    fields.Take(choice);
  } else if (!value->is_string() || style == ToolStyle::kMessages) {
    fields.WrongType("tool_choice", style == ToolStyle::kMessages ? "an object" : "a string or an object", *value);
    return false;
  }
  if (type == "none") {
    chat.clear_tool_schemas();
  } else if (type == "required" || type == "any") {
    if (chat.tool_schemas().empty()) fields.Fail("tool_choice", "asks for a call, and there are no tools");
    chat.set_call_required(true);
  } else if (type == "function" || type == "tool") {
    if (forced.empty()) fields.Fail("tool_choice", "names no tool");
    chat.set_forced_tool(forced);
  } else if (type != "auto") {
    fields.Fail("tool_choice", absl::StrCat("is of type \"", type, "\", want auto, none, required, or the name of a tool"));
  }
  return single;
}

}  // namespace

bool ReadTools(JsonFields& fields, ToolStyle style, v1::ChatPrompt& chat) {
  const json* tools = fields.Array("tools");
  if (tools != nullptr && !tools->empty()) {
    if (tools->size() > kMaxTools) {
      fields.Fail("tools", absl::StrCat("holds ", tools->size(), " tools, at most ", kMaxTools, " are allowed"));
    }
    if (const size_t keys = LargestObject(*tools); keys > kMaxKeys) {
      fields.Fail("tools", absl::StrCat("holds an object of ", keys, " keys, at most ", kMaxKeys, " are allowed"));
    }
    fields.EachObject("tools", *tools, [style](JsonFields& tool) { CheckTool(tool, style); });
    if (!fields.status().ok()) return false;
    for (const json& tool : *tools) chat.add_tool_schemas(Schema(tool, style));
  }
  const bool parallel = fields.Bool("parallel_tool_calls").value_or(true);
  return ReadChoice(fields, style, chat) || !parallel;
}

}  // namespace berth::http
