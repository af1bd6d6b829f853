#pragma once

#include <string_view>

#include "gateway/http/json_fields.h"
#include "proto/berth/v1/generation.pb.h"

namespace berth::http {

// How an API spells tools and the choice among them.
enum class ToolStyle {
  kChat,       // {"type": "function", "function": {"name", "description", "parameters"}}
  kResponses,  // {"type": "function", "name", "description", "parameters"}
  kMessages,   // {"name", "description", "input_schema"}
};

// Reads `tools` and `tool_choice` of a body into the prompt; `body` is the text that `fields` are of, for the order of keys.
// True when the answer may make one call at most.
bool ReadTools(JsonFields& fields, std::string_view body, ToolStyle style, v1::ChatPrompt& chat);

}  // namespace berth::http
