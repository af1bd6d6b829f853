#include "gateway/http/openapi.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "gateway/http/embeddings.h"
#include "gateway/http/endpoints.h"
#include "gateway/http/messages_request.h"
#include "gateway/http/native_request.h"
#include "gateway/http/request.h"
#include "gateway/http/responses_request.h"

namespace berth::http {
namespace {

using nlohmann::json;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAreArray;

TEST(OpenApiTest, DescribesExactlyWhatIsAnswered) {
  std::vector<std::string> answered, described;
  for (const Endpoint& endpoint : Endpoints()) {
    const std::string path = endpoint.path;
    if (path == "/" || path == "/web/") continue;  // the page
    answered.push_back(absl::StrCat(absl::AsciiStrToLower(endpoint.method), " ", path, path.back() == '/' ? "{model}" : ""));
  }
  for (const auto& [path, operations] : OpenApi()["paths"].items()) {
    for (const auto& [method, operation] : operations.items()) described.push_back(absl::StrCat(method, " ", path));
  }
  EXPECT_THAT(described, UnorderedElementsAreArray(answered));
}

// A body with every field that is described; null is as good as absent, but it is a field.
std::string FullBody(const char* path) {
  const json& schema = OpenApi()["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"];
  json body;
  for (const auto& [name, field] : schema["properties"].items()) body[name] = nullptr;
  const json required = {
      {"model", "m"}, {"messages", {{{"role", "user"}, {"content", "x"}}}}, {"prompt", "x"}, {"input", "x"}, {"max_tokens", 1}};
  for (const auto& [name, value] : required.items()) {
    if (body.contains(name)) body[name] = value;
  }
  return body.dump();
}

TEST(OpenApiTest, EveryFieldThatIsDescribedIsRead) {
  const auto expect_all_read = [](const auto& request) {
    ASSERT_TRUE(request.ok()) << request.status();
    EXPECT_THAT(request->ignored_fields, IsEmpty());
  };
  expect_all_read(ParseChatCompletion(FullBody("/v1/chat/completions")));
  expect_all_read(ParseTextCompletion(FullBody("/v1/completions")));
  expect_all_read(ParseResponsesRequest(FullBody("/v1/responses"), 0));
  expect_all_read(ParseMessagesRequest(FullBody("/v1/messages")));
  expect_all_read(ParseGenerateRequest(FullBody("/generate")));
  expect_all_read(ParseEmbeddings(FullBody("/v1/embeddings")));
}

TEST(EndpointTest, IsFoundByItsWholePath) {
  EXPECT_STREQ(FindEndpoint("GET", "/v1/models/a/b")->path, "/v1/models/");
  EXPECT_STREQ(FindEndpoint("PUT", "/v1/models")->method, "GET");
  for (const char* path : {"", "/v1/models/", "/health/", "//health", "/v1", "/v1/chat/completions/x", "/V1/models"}) {
    EXPECT_EQ(FindEndpoint("GET", path), nullptr) << path;
  }
}

}  // namespace
}  // namespace berth::http
