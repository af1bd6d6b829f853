#pragma once

#include "gateway/http/exchange.h"

namespace berth::http {

// The body of POST /v1/messages, Anthropic's API: text, thinking and tools.
GenerationCall ReadMessages(JsonFields& fields);
// Of POST /v1/messages/count_tokens: its prompt and model.
v1::TokenizeRequest ReadCountTokens(JsonFields& fields);

}  // namespace berth::http
