#pragma once

#include "gateway/http/exchange.h"

namespace berth::http {

// What text is in tokens, and the way back; a worker answers.

// POST /v1/tokenize: {"prompt"} or {"messages"} → {"tokens", "count"}.
void Tokenize(Exchange& exchange);
// POST /v1/detokenize: {"tokens"} → {"prompt"}.
void Detokenize(Exchange& exchange);
// POST /v1/encode, LMDeploy's: {"input"} of one text or several → {"input_ids", "length"}.
void Encode(Exchange& exchange);
// POST /v1/messages/count_tokens, Anthropic's → {"input_tokens"}.
void CountTokens(Exchange& exchange);

}  // namespace berth::http
