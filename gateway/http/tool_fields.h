#pragma once

#include "gateway/http/json_fields.h"
#include "proto/berth/v1/generation.pb.h"

namespace berth::http {

// How an API spells tools and the choice among them.
enum class ToolStyle {
  kChat,       // {"type": "function", "function": {"name", "description", "parameters"}}
  kResponses,  // {"type": "function", "name", "description", "parameters"}
  kMessages,   // {"name", "description", "input_schema"}
};

// Reads `tools` and `tool_choice` of a body into the prompt. True when the answer may make one call at most.
bool ReadTools(JsonFields& fields, ToolStyle style, v1::ChatPrompt& chat);

}  // namespace berth::http
