#pragma once

#include "gateway/http/embeddings.h"
#include "gateway/http/messages_request.h"
#include "gateway/http/native_request.h"
#include "gateway/http/request.h"
#include "gateway/http/responses_request.h"
#include "gateway/http/token_endpoints.h"

namespace berth::http {

// What reads the body of each endpoint that has one.
struct BodyReader {
  const char* path;
  void (*read)(JsonFields& fields);
};

inline constexpr BodyReader kBodyReaders[] = {
    {"/v1/chat/completions", [](JsonFields& fields) { ReadChatCompletion(fields); }},
    {"/v1/completions", [](JsonFields& fields) { ReadTextCompletion(fields); }},
    {"/v1/responses", [](JsonFields& fields) { ReadResponses(fields, 0); }},
    {"/v1/messages", [](JsonFields& fields) { ReadMessages(fields); }},
    {"/v1/messages/count_tokens", [](JsonFields& fields) { ReadCountTokens(fields); }},
    {"/v1/chat/interactive", [](JsonFields& fields) { ReadInteractive(fields); }},
    {"/v1/sessions/fork", [](JsonFields& fields) { ReadFork(fields); }},
    {"/generate", [](JsonFields& fields) { ReadGenerate(fields); }},
    {"/v1/encode", [](JsonFields& fields) { ReadEncode(fields); }},
    {"/v1/tokenize", [](JsonFields& fields) { ReadTokenize(fields); }},
    {"/v1/detokenize", [](JsonFields& fields) { ReadDetokenize(fields); }},
    {"/v1/embeddings", [](JsonFields& fields) { ReadEmbeddings(fields); }},
};

}  // namespace berth::http
