#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"

namespace berth::text {

// A family's way to write a conversation, for checkpoints that bring no chat template of their own.
struct BuiltinTemplate {
  std::string source;                         // Jinja, for ParseChatTemplate
  std::vector<std::string_view> stop_tokens;  // end an answer, where the vocabulary has them
};

std::vector<std::string_view> BuiltinTemplateNames();

// Nothing in `source`: there is none of that name.
BuiltinTemplate FindBuiltinTemplate(std::string_view name);

// The name of the template of a model family, told apart by its special tokens; empty: none is known, as for base models.
std::string_view BuiltinTemplateOf(std::string_view family, absl::FunctionRef<bool(std::string_view token)> has_token);

}  // namespace berth::text
