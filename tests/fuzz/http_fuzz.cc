// Bytes as a connection reads them: every request among them is parsed under the server's limits and handled by its endpoint,
// against a gateway without workers. Each gets one answer, and every refusal says why.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/mutex.h"
#include "boost/beast/http/parser.hpp"
#include "boost/beast/http/string_body.hpp"
#include "gateway/http/endpoints.h"
#include "gateway/http/error_body.h"
#include "gateway/relay/grpc_link.h"
#include "prometheus/registry.h"
#include "proto/rpc/process.h"

namespace {

using namespace berth;
namespace beast_http = boost::beast::http;

constexpr size_t kMaxHeaderBytes = 64 << 10, kMaxBodyBytes = 1 << 20;

void Expect(bool condition) {
  if (!condition) std::abort();
}

// What every rpc of a worker comes to.
struct Unavailable {
  template <typename Request, typename Response>
  void operator()(const std::string&, const Request&,
                  std::function<void(const absl::Status& status, const Response& response)> done) const {
    done(absl::UnavailableError("no worker"), {});
  }
};

// A gateway to which no worker is attached.
struct Gateway {
  Gateway() { shard.Start(); }

  // Runs what the handlers left for the shard.
  void RunPosted() {
    base::Notification done;
    shard.Post([&] { done.Notify(); });
    done.Wait();
  }

  rpc::Shard shard{std::make_unique<grpc::CompletionQueue>()};
  prometheus::Registry registry;
  relay::GatewayMetrics metrics{registry};
  relay::ShardTimers timers{shard};
  relay::Relay relay{{.gateway_id = "g"}, {}, base::SystemClock(), timers, nullptr, nullptr, metrics};
  rpc::Authenticator authenticator;
  http::ConnectionContext context{
      .generation = {.shard = shard, .relay = relay, .metrics = metrics, .clock = base::SystemClock()},
      .authenticator = authenticator,
      .ready = [] { return true; },
      .workers = {.tokenize = Unavailable(),
                  .detokenize = Unavailable(),
                  .embed =
                      [](const auto&, const auto&, auto done) {
                        done(absl::UnavailableError("no worker"), {});
                        return [] {};
                      },
                  .close_session = Unavailable(),
                  .fork_session = Unavailable()}};
};

class FuzzExchange : public http::Exchange {
 public:
  FuzzExchange(const http::ConnectionContext& context, std::string path, std::string body,
               std::shared_ptr<const rpc::Tenant> tenant)
      : context_(context), path_(std::move(path)), body_(std::move(body)), tenant_(std::move(tenant)) {}

  const http::ConnectionContext& context() const override { return context_; }
  const std::string& path() const override { return path_; }
  const std::string& body() const override { return body_; }
  std::string header(const char*) const override { return ""; }
  const std::shared_ptr<const rpc::Tenant>& tenant() const override { return tenant_; }
  void OnGone(std::function<void()>) override {}
  void Post(std::function<void()> task) override { task(); }

  void Answer(http::HttpAnswer) override { Expect(++answers_ == 1); }
  void Fail(const absl::Status& status) override {
    Expect(++answers_ == 1 && !status.ok() && !status.message().empty());
    Expect(!absl::IsInternal(status) && !http::ErrorBody(status).empty() && !http::AnthropicErrorBody(status).empty());
  }
  void Generate(http::GenerationCall call) override {
    Expect(++answers_ == 1);
    v1::GenerateResponse whole;
    whole.add_choices()->set_text("\xc3\xa9");
    whole.mutable_choices(0)->set_finish_reason(v1::FINISH_REASON_LENGTH);
    Expect(!call.format->Whole(whole).empty());
    v1::StreamGenerateResponse started, delta;
    started.mutable_started()->set_prompt_tokens(3);
    delta.mutable_delta()->set_text("x");
    call.format->Format(started);
    call.format->Format(delta);
    call.format->End(absl::UnavailableError("gone"));
  }
  int answers() const { return answers_; }

 private:
  const http::ConnectionContext& context_;
  const std::string path_, body_;
  const std::shared_ptr<const rpc::Tenant> tenant_;
  int answers_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Gateway& gateway = *[] {
    rpc::InitProcess();
    return new Gateway();
  }();
  boost::asio::const_buffer rest(data, size);
  while (rest.size() > 0) {
    beast_http::request_parser<beast_http::string_body> parser;
    parser.body_limit(kMaxBodyBytes);
    parser.header_limit(kMaxHeaderBytes);
    parser.eager(true);
    boost::system::error_code error;
    while (!error && !parser.is_done() && rest.size() > 0) rest += parser.put(rest, error);
    if (error || !parser.is_done()) return 0;
    const std::string_view target(parser.get().target().data(), parser.get().target().size());
    const std::string path(target.substr(0, target.find('?')));
    const http::Endpoint* const endpoint = http::FindEndpoint(std::string(parser.get().method_string()), path);
    if (endpoint == nullptr || endpoint->method != std::string_view(parser.get().method_string())) continue;
    const auto exchange = std::make_shared<FuzzExchange>(gateway.context, path, std::move(parser.get().body()),
                                                         *gateway.authenticator.Authenticate(""));
    endpoint->handle(*exchange);
    gateway.RunPosted();
    Expect(exchange->answers() == 1);
  }
  return 0;
}
