#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/http/exchange.h"

namespace berth::http {

struct EmbeddingsRequest {
  // Each as large as one rpc may be; their inputs follow one another.
  std::vector<v1::EmbedRequest> parts;
  bool base64 = false;
  std::vector<std::string> ignored_fields;
};

absl::StatusOr<EmbeddingsRequest> ParseEmbeddings(std::string_view body);

// The answer's body. `parts`: of the request's parts, in their order.
std::string FormatEmbeddings(const std::vector<v1::EmbedResponse>& parts, bool base64);

// POST /v1/embeddings.
void Embeddings(Exchange& exchange);

}  // namespace berth::http
