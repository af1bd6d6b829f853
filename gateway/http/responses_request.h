#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "gateway/http/exchange.h"

namespace berth::http {

// The body of POST /v1/responses: text and functions, nothing that is kept between calls. INVALID_ARGUMENT names the field.
// `created` is a Unix time.
absl::StatusOr<GenerationCall> ParseResponsesRequest(std::string_view body, int64_t created);

}  // namespace berth::http
