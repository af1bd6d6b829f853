#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/http/exchange.h"
#include "proto/berth/v1/generation.pb.h"

namespace berth::http {

// A request for a completion, as the gateway understands it.
struct CompletionRequest {
  v1::GenerationSpec spec;
  // Of a completion with several prompts: those after the spec's.
  std::vector<v1::Prompt> more_prompts;
  bool chat = false;
  bool stream = false;
  // A last chunk with the usage.
  bool include_usage = false;
  bool single_tool_call = false;
  // Of each prompt; empty: nothing is echoed.
  std::vector<std::string> echoes;
  std::vector<std::string> ignored_fields;
};

// The body of POST /v1/chat/completions or /v1/completions. Types are checked here, ranges where the values are used.
// INVALID_ARGUMENT names the field; what OpenAI's API has and Berth has not is one too, never ignored where the answer would
// differ.
absl::StatusOr<CompletionRequest> ParseChatCompletion(std::string_view body);
absl::StatusOr<CompletionRequest> ParseTextCompletion(std::string_view body);

// `created` is a Unix time.
GenerationCall ToCall(CompletionRequest request, int64_t created);

}  // namespace berth::http
