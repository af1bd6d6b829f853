#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "gateway/http/exchange.h"

namespace berth::http {

// LMDeploy's own endpoints.

// The body of POST /generate: token ids in and out.
absl::StatusOr<GenerationCall> ParseGenerateRequest(std::string_view body);

// POST /v1/chat/interactive: turns of a session that the server keeps, their cancel, and the session's end.
void Interactive(Exchange& exchange);

// POST /v1/sessions/fork: a branch of a session, at its worker. `position` of the answer: tokens of history that the branch
// begins with; 0 of a session whose history its callers keep.
absl::StatusOr<v1::ForkSessionRequest> ParseForkRequest(std::string_view body);
void Fork(Exchange& exchange);

}  // namespace berth::http
