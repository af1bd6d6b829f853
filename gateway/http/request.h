#pragma once

#include <vector>

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
  // Each prompt; empty: nothing is echoed. Those of token ids are replaced by their text, which a worker knows.
  std::vector<v1::Prompt> echoes;
};

// The body of POST /v1/chat/completions or /v1/completions. Types are checked here, ranges where the values are used.
// What OpenAI's API has and Berth has not is a mistake too, never ignored where the answer would
// differ.
CompletionRequest ReadChatCompletion(JsonFields& fields);
CompletionRequest ReadTextCompletion(JsonFields& fields);

// `created` is a Unix time.
GenerationCall ToCall(CompletionRequest request, int64_t created);

}  // namespace berth::http
