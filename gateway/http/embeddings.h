#pragma once

#include <string>
#include <vector>

#include "gateway/http/exchange.h"

namespace berth::http {

struct EmbeddingsRequest {
  // Each as large as one rpc may be; their inputs follow one another.
  std::vector<v1::EmbedRequest> parts;
  bool base64 = false;
};

EmbeddingsRequest ReadEmbeddings(JsonFields& fields);

// The answer's body. `parts`: of the request's parts, in their order.
std::string FormatEmbeddings(const std::vector<v1::EmbedResponse>& parts, bool base64);

// POST /v1/embeddings.
void Embeddings(Exchange& exchange);

}  // namespace berth::http
