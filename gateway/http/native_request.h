#pragma once

#include "gateway/http/exchange.h"

namespace berth::http {

// LMDeploy's own endpoints.

// The body of POST /generate: token ids in and out.
GenerationCall ReadGenerate(JsonFields& fields);

// POST /v1/chat/interactive: turns of a session that the server keeps, their cancel, and the session's end.
struct InteractiveRequest {
  GenerationCall call;
  bool cancel = false;
  bool close = false;
};
InteractiveRequest ReadInteractive(JsonFields& fields);
void Interactive(Exchange& exchange);

// POST /v1/sessions/fork: a branch of a session, at its worker. `position` of the answer: tokens of history that the branch
// begins with; 0 of a session whose history its callers keep.
v1::ForkSessionRequest ReadFork(JsonFields& fields);
void Fork(Exchange& exchange);

}  // namespace berth::http
