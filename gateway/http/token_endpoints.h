#pragma once

#include <vector>

#include "gateway/http/exchange.h"

namespace berth::http {

// What text is in tokens, and the way back; a worker answers.

// POST /v1/tokenize: {"prompt"} or {"messages"} → {"tokens", "count"}.
v1::TokenizeRequest ReadTokenize(JsonFields& fields);
void Tokenize(Exchange& exchange);
// POST /v1/detokenize: {"tokens"} → {"prompt"}.
v1::DetokenizeRequest ReadDetokenize(JsonFields& fields);
void Detokenize(Exchange& exchange);
// POST /v1/encode, LMDeploy's: {"input"} of one text or several → {"input_ids", "length"}.
struct EncodeRequest {
  std::vector<v1::TokenizeRequest> texts;
  bool several = false;
};
EncodeRequest ReadEncode(JsonFields& fields);
void Encode(Exchange& exchange);
// POST /v1/messages/count_tokens, Anthropic's → {"input_tokens"}.
void CountTokens(Exchange& exchange);

}  // namespace berth::http
