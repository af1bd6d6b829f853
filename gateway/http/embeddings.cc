#include "gateway/http/embeddings.h"

#include <charconv>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "gateway/http/generation_fields.h"
#include "gateway/http/json_text.h"

namespace berth::http {
namespace {

using json = nlohmann::ordered_json;

constexpr size_t kMostInputs = 2048;
// Of one rpc.
constexpr int kPartInputs = 32;
constexpr size_t kPartBytes = size_t{1} << 20;

// With as few digits as tell it from other floats.
void AppendNumber(float x, std::string* out) {
  char text[32];
  out->append(text, std::to_chars(text, text + sizeof(text), x).ptr);
}

void AppendVector(const google::protobuf::RepeatedField<float>& values, bool base64, std::string* out) {
  if (base64) {
    // Little-endian, as this machine has them.
    std::string bytes(values.size() * sizeof(float), '\0');
    std::memcpy(bytes.data(), values.data(), bytes.size());
    absl::StrAppend(out, "\"", absl::Base64Escape(bytes), "\"");
    return;
  }
  char before = '[';
  for (const float x : values) {
    out->push_back(std::exchange(before, ','));
    AppendNumber(x, out);
  }
  out->push_back(']');
}

std::vector<v1::EmbedRequest> Split(const std::string& model, std::vector<v1::Prompt> inputs) {
  std::vector<v1::EmbedRequest> parts;
  size_t bytes = 0;
  for (v1::Prompt& input : inputs) {
    const size_t size = input.ByteSizeLong();
    if (parts.empty() || parts.back().inputs_size() == kPartInputs || bytes + size > kPartBytes) {
      parts.emplace_back().set_model(model);
      bytes = 0;
    }
    bytes += size;
    *parts.back().add_inputs() = std::move(input);
  }
  return parts;
}

// One request's parts, and what has come of them. Thread: the workers' shard; the last part's taker hands it to the exchange.
struct Parts {
  EmbeddingsRequest request;
  std::vector<v1::EmbedResponse> answers;
  size_t missing = 0;
  std::vector<std::function<void()>> cancels = {};
  bool failed = false;  // or its caller has gone

  void Stop() {
    failed = true;
    for (const auto& cancel : std::exchange(cancels, {})) cancel();
  }
};

void TakePart(const std::shared_ptr<Exchange>& exchange, const std::shared_ptr<Parts>& parts, size_t part,
              const absl::Status& status, const v1::EmbedResponse& response) {
  if (parts->failed) return;
  if (!status.ok()) {
    parts->Stop();
    return exchange->Post([exchange, status] { exchange->Fail(status); });
  }
  parts->answers[part] = response;
  if (--parts->missing == 0)
    exchange->Post([exchange, parts] { exchange->Answer({.body = FormatEmbeddings(parts->answers, parts->request.base64)}); });
}

}  // namespace

EmbeddingsRequest ReadEmbeddings(JsonFields& fields) {
  v1::GenerationSpec spec;
  ReadModel(fields, spec);
  EmbeddingsRequest request{.parts = Split(spec.model(), ReadPrompts(fields, "input", kMostInputs))};
  const std::string format = fields.String("encoding_format").value_or("float");
  request.base64 = format == "base64";
  if (!request.base64 && format != "float") {
    fields.Fail("encoding_format", absl::StrCat("is \"", format, "\", want \"float\" or \"base64\""));
  }
  fields.Refuse("dimensions", "is not supported: a model's embeddings have one size");
  PassOver(fields);
  return request;
}

std::string FormatEmbeddings(const std::vector<v1::EmbedResponse>& parts, bool base64) {
  std::string body = R"({"object":"list","data":[)";
  int index = 0;
  int64_t tokens = 0;
  for (const v1::EmbedResponse& part : parts) {
    tokens += part.usage().prompt_tokens();
    for (const v1::EmbedResponse::Embedding& embedding : part.embeddings()) {
      absl::StrAppend(&body, index > 0 ? "," : "", R"({"object":"embedding","index":)", index, R"(,"embedding":)");
      AppendVector(embedding.values(), base64, &body);
      body.push_back('}');
      ++index;
    }
  }
  absl::StrAppend(&body, R"(],"model":)", Dump(parts.front().model()), R"(,"usage":{"prompt_tokens":)", tokens,
                  R"(,"total_tokens":)", tokens, "}}");
  return body;
}

// Asks for all parts at once; the first error fails the whole.
void Embeddings(Exchange& exchange) {
  std::optional<EmbeddingsRequest> request = ReadBody(exchange, ReadEmbeddings);
  if (!request.has_value()) return;
  const size_t count = request->parts.size();
  auto parts = std::make_shared<Parts>(
      Parts{.request = *std::move(request), .answers = std::vector<v1::EmbedResponse>(count), .missing = count});
  rpc::Shard& shard = exchange.context().generation.shard;
  exchange.OnGone([&shard, parts] { shard.Post([parts] { parts->Stop(); }); });
  // Weakly: a worker's answer may come when the server is gone.
  shard.Post([weak = exchange.weak_from_this(), parts] {
    const auto self = weak.lock();
    for (size_t i = 0; self != nullptr && i < parts->request.parts.size() && !parts->failed; ++i) {
      parts->cancels.push_back(
          self->context().workers.embed(self->tenant(), parts->request.parts[i], /*further=*/i > 0,
                                        [weak, parts, i](const absl::Status& status, const v1::EmbedResponse& response) {
                                          if (const auto self = weak.lock()) TakePart(self, parts, i, status, response);
                                        }));
    }
  });
}

}  // namespace berth::http
