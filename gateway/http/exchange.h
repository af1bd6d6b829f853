#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gateway/http/answer_format.h"
#include "gateway/http/generation.h"
#include "gateway/http/json_fields.h"
#include "proto/berth/v1/inference.pb.h"
#include "proto/berth/v1/session.pb.h"
#include "proto/rpc/api_keys.h"

namespace berth::http {

// Plain rpcs of workers, in a tenant's name. On the shard's thread, as are their answers.
struct WorkerCalls {
  template <typename Request, typename Response>
  using Call = std::function<void(const std::string& tenant, const Request& request,
                                  std::function<void(const absl::Status& status, const Response& response)> done)>;
  Call<v1::TokenizeRequest, v1::TokenizeResponse> tokenize;
  Call<v1::DetokenizeRequest, v1::DetokenizeResponse> detokenize;
  // As CallerServices::Embed: returns what cancels it.
  std::function<std::function<void()>(const std::shared_ptr<const rpc::Tenant>& tenant, const v1::EmbedRequest& request,
                                      bool further,
                                      std::function<void(const absl::Status& status, const v1::EmbedResponse& response)> done)>
      embed;
  Call<v1::CloseSessionRequest, v1::CloseSessionResponse> close_session;
  Call<v1::ForkSessionRequest, v1::ForkSessionResponse> fork_session;
};

struct ConnectionContext {
  Generation::Context generation;
  const rpc::Authenticator& authenticator;
  // A worker has been attached, and the gateway does not drain. Any thread.
  std::function<bool()> ready;
  WorkerCalls workers;
  // Origins whose pages may call, for browsers; "*": all.
  std::vector<std::string> allowed_origins;
  // Of a streaming answer that has nothing to say.
  absl::Duration heartbeat = absl::Seconds(15);
  // In which a caller has to send a request, from its first byte on.
  absl::Duration request_timeout = absl::Seconds(60);
  size_t max_body_bytes = 32 << 20;
};

struct HttpAnswer {
  int code = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers = {};
};

// A generation that a request asks for, and the way to answer it.
struct GenerationCall {
  v1::GenerationSpec spec;
  // Of several prompts: those after the spec's.
  std::vector<v1::Prompt> more_prompts;
  bool stream = false;
  // Calls after the first are left out.
  bool single_tool_call = false;
  // A session that is not open is opened: this turn is then its first.
  bool opens_session = false;
  std::unique_ptr<AnswerFormat> format;
};

// One request and the way to answer it: exactly one of Answer, Fail and Generate, once. Thread: its strand.
class Exchange : public std::enable_shared_from_this<Exchange> {
 public:
  virtual ~Exchange() = default;

  virtual const ConnectionContext& context() const = 0;
  virtual const std::string& path() const = 0;
  virtual const std::string& body() const = 0;
  virtual std::string header(const char* name) const = 0;  // of the request; "": none
  virtual const std::shared_ptr<const rpc::Tenant>& tenant() const = 0;

  virtual void Answer(HttpAnswer answer) = 0;
  virtual void Fail(const absl::Status& status) = 0;
  virtual void Generate(GenerationCall call) = 0;

  // `callback` runs on the strand, if the caller goes away before the answer.
  virtual void OnGone(std::function<void()> callback) = 0;
  // Any thread: runs `task` on the strand; what it answers is dropped when the caller has gone.
  virtual void Post(std::function<void()> task) = 0;

  // Fields of the body that nobody knows, for the answer's Warning header.
  void set_ignored_fields(std::vector<std::string> names) { ignored_fields_ = std::move(names); }
  const std::vector<std::string>& ignored_fields() const { return ignored_fields_; }

 private:
  std::vector<std::string> ignored_fields_;
};

// The body as `read` has it. Null: it is no good, and that is answered.
template <typename Read>
std::optional<std::invoke_result_t<Read, JsonFields&>> ReadBody(Exchange& exchange, Read read) {
  std::vector<std::string> ignored;
  auto request = ParseBody(read, exchange.body(), &ignored);
  if (!request.ok()) {
    exchange.Fail(request.status());
    return std::nullopt;
  }
  exchange.set_ignored_fields(std::move(ignored));
  return *std::move(request);
}

}  // namespace berth::http
