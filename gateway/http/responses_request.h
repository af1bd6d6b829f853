#pragma once

#include <cstdint>

#include "gateway/http/exchange.h"

namespace berth::http {

// The body of POST /v1/responses: text and functions, nothing that is kept between calls. `created` is a Unix time.
GenerationCall ReadResponses(JsonFields& fields, int64_t created);

}  // namespace berth::http
