#include "gateway/http/openapi.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "gateway/http/endpoints.h"
#include "tests/gateway/http/body_readers.h"

namespace berth::http {
namespace {

using nlohmann::ordered_json;
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

const ordered_json& SchemaOf(const char* path) {
  return OpenApi()["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"];
}

// Whether a body that has these fields, of those described, is good; `read`: what was read of it.
bool IsGood(const BodyReader& reader, const std::set<std::string>& names, std::set<std::string>* read = nullptr) {
  const ordered_json values = {{"model", "m"},  {"session_id", "s"}, {"max_tokens", 1},
                               {"prompt", "x"}, {"input", "x"},      {"messages", {{{"role", "user"}, {"content", "x"}}}},
                               {"tokens", {1}}};
  ordered_json body = ordered_json::object();
  for (const std::string& name : names) body[name] = values.value(name, ordered_json());
  JsonFields fields(body);
  reader.read(fields);
  if (read != nullptr) *read = {fields.read().begin(), fields.read().end()};
  return fields.status().ok();
}

TEST(OpenApiTest, EveryBodyIsReadHere) {
  std::vector<std::string> with_body, readers;
  for (const auto& [path, operations] : OpenApi()["paths"].items()) {
    if (operations.contains("post")) with_body.push_back(path);
  }
  for (const BodyReader& reader : kBodyReaders) readers.push_back(reader.path);
  EXPECT_THAT(readers, UnorderedElementsAreArray(with_body));
}

TEST(OpenApiTest, FieldsAreThoseThatAreReadAndRequiredThoseThatMustBeThere) {
  for (const BodyReader& reader : kBodyReaders) {
    SCOPED_TRACE(reader.path);
    const ordered_json& schema = SchemaOf(reader.path);
    const std::set<std::string> required = schema.value("required", std::set<std::string>());
    std::set<std::string> described, read;
    for (const auto& [name, field] : schema["properties"].items()) described.insert(name);
    EXPECT_FALSE(IsGood(reader, {}, &read));
    EXPECT_THAT(read, UnorderedElementsAreArray(described));
    IsGood(reader, described, &read);
    EXPECT_THAT(read, UnorderedElementsAreArray(described));

    // Of two of which one is required, neither is said to be.
    std::set<std::string> enough = required;
    if (!IsGood(reader, enough)) enough.insert("prompt");
    EXPECT_TRUE(IsGood(reader, enough));
    for (const std::string& name : required) {
      std::set<std::string> less = enough;
      less.erase(name);
      EXPECT_FALSE(IsGood(reader, less)) << name;
    }
  }
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
