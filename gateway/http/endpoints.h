#pragma once

#include <string_view>

#include "absl/types/span.h"
#include "gateway/http/error_body.h"
#include "gateway/http/exchange.h"

namespace berth::http {

struct Endpoint {
  const char* method;
  const char* path;  // one that ends in "/": whatever follows
  bool open;         // no key is asked for
  void (*handle)(Exchange& exchange);
};

// All that the gateway answers.
absl::Span<const Endpoint> Endpoints();

// Of all errors at `path`, also where there is nothing.
ErrorStyle ErrorStyleAt(std::string_view path);

// Null when there is nothing at `path`. Of several with this path the one for `method`, else any: its method is another.
const Endpoint* FindEndpoint(std::string_view method, std::string_view path);

}  // namespace berth::http
