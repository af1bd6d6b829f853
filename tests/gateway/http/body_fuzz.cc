// What becomes of a request's body, for body_mutation_test: every reader takes it, and says what is wrong with it. libFuzzer's
// is tests/fuzz/http_fuzz.cc.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "gateway/http/error_body.h"
#include "tests/gateway/http/body_readers.h"

namespace {

void Check(const absl::Status& status) {
  if (status.ok()) return;
  if (!absl::IsInvalidArgument(status) || status.message().empty()) std::abort();
  if (berth::http::ErrorBody(status).empty() || berth::http::AnthropicErrorBody(status).empty()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  for (const berth::http::BodyReader& reader : berth::http::kBodyReaders) {
    const auto read = [&reader](berth::http::JsonFields& fields) {
      reader.read(fields);
      return true;
    };
    Check(berth::http::ParseBody(read, body).status());
  }
  return 0;
}
