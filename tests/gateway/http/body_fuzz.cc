// What becomes of a request's body, for body_mutation_test: every parser takes it, and says what is wrong with it. libFuzzer's
// is tests/fuzz/http_fuzz.cc.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "gateway/http/embeddings.h"
#include "gateway/http/error_body.h"
#include "gateway/http/messages_request.h"
#include "gateway/http/native_request.h"
#include "gateway/http/request.h"
#include "gateway/http/responses_request.h"

namespace {

void Check(const absl::Status& status) {
  if (status.ok()) return;
  if (!absl::IsInvalidArgument(status) || status.message().empty()) std::abort();
  if (berth::http::ErrorBody(status).empty() || berth::http::AnthropicErrorBody(status).empty()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  Check(berth::http::ParseChatCompletion(body).status());
  Check(berth::http::ParseTextCompletion(body).status());
  Check(berth::http::ParseResponsesRequest(body, 0).status());
  Check(berth::http::ParseMessagesRequest(body).status());
  Check(berth::http::ParseCountRequest(body).status());
  Check(berth::http::ParseGenerateRequest(body).status());
  Check(berth::http::ParseEmbeddings(body).status());
  Check(berth::http::ParseForkRequest(body).status());
  return 0;
}
