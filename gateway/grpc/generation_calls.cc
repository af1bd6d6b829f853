#include "gateway/grpc/generation_calls.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "proto/rpc/collector.h"
#include "proto/rpc/deadline.h"

namespace berth::gateway {
namespace {

// A caller that was given up may still take its status for so long.
constexpr absl::Duration kStatusGrace = absl::Seconds(10);

relay::GenerationRequest MakeRequest(const CallerContext& context, const rpc::ServerCall& call,
                                     const grpc::ServerContext& server, std::shared_ptr<const rpc::Tenant> tenant,
                                     v1::GenerationSpec& spec) {
  if (spec.session_id().empty()) spec.set_session_id(call.metadata("x-session-id"));
  if (spec.request_id().empty()) spec.set_request_id(call.metadata("x-request-id"));
  return {.tenant = tenant->name,
          .spec = std::move(spec),
          .deadline = context.clock.Monotonic() + rpc::TimeLeft(server),
          .traceparent = call.metadata("traceparent"),
          .worker_hint = call.metadata("x-worker-hint"),
          .limits = std::move(tenant)};
}

// "hit", "new", "spill" or "rebind".
std::string AffinityName(v1::Affinity affinity) {
  return absl::AsciiStrToLower(v1::Affinity_Name(affinity).substr(sizeof("AFFINITY_") - 1));
}

void AddPlacement(grpc::ServerContext& server, const v1::Started& started) {
  server.AddInitialMetadata("x-worker-id", started.worker_id());
  server.AddInitialMetadata("x-worker-incarnation", absl::StrCat(started.worker_incarnation()));
  server.AddInitialMetadata("x-affinity", AffinityName(started.affinity()));
}

// One generation of a gRPC call: reads the relay's stream whenever it can send. Kept alive by the call's callbacks.
template <typename Call>
class Generation : public relay::StreamSink, public std::enable_shared_from_this<Generation<Call>> {
 public:
  Generation(const CallerContext& context, std::shared_ptr<Call> call, const char* method)
      : context_(context), call_(std::move(call)), meter_(context.rpc_metrics, "InferenceService", method), method_(method) {}

  // An error when the caller is refused: then nothing has begun.
  absl::Status Start(v1::GenerationSpec& spec) {
    model_ = context_.relay.view().ModelLabel(spec.model());
    BERTH_ASSIGN_OR_RETURN(std::shared_ptr<const rpc::Tenant> tenant, Authenticate(context_, *call_));
    call_->OnCancel([self = this->shared_from_this()] {
      self->context_.relay.Abandon(self->stream_);
      self->Ended(absl::StatusCode::kCancelled);
    });
    stream_ = context_.relay.Open(MakeRequest(context_, *call_, call_->context(), std::move(tenant), spec), *this);
    return absl::OkStatus();
  }

 protected:
  void Ended(absl::StatusCode code) {
    meter_.Ended(code);
    context_.metrics.RequestEnded(method_, model_, relay::CodeName(code), meter_.age());
  }

  const CallerContext context_;
  const std::shared_ptr<Call> call_;
  RpcMetrics::Call meter_;
  const char* const method_;
  std::string model_;
  uint64_t stream_ = 0;
};

class Streaming : public Generation<StreamGenerateCall> {
 public:
  explicit Streaming(const CallerContext& context, std::shared_ptr<StreamGenerateCall> call)
      : Generation(context, std::move(call), "StreamGenerate") {}

  void Start() {
    call_->OnWritten([self = shared_from_this(), this] { OnReadable(); });
    if (absl::Status status = Generation::Start(*call_->request().mutable_generation()); !status.ok()) return Finish(status);
    OnReadable();
  }

  void OnReadable() override {
    if (call_->writing() || call_->ended()) return;
    std::optional<relay::Outbox::Item> item = context_.relay.Read(stream_);
    if (!item.has_value()) return;
    if (item->end.has_value()) return Finish(*item->end);
    const v1::StreamGenerateResponse& message = *item->message;
    if (message.has_started()) AddPlacement(call_->context(), message.started());
    if (!message.has_finished()) return call_->Write(message, item->more);
    // Behind `finished` comes nothing but the end.
    context_.relay.Read(stream_);
    Ended(absl::StatusCode::kOk);
    call_->WriteAndFinish(message);
  }

  int connection() override { return call_->socket(); }

  void OnGivenUp(const absl::Status& status) override {
    Finish(status);
    call_->shard().After(kStatusGrace, [call = call_] { call->context().TryCancel(); });
  }

 private:
  void Finish(const absl::Status& status) {
    Ended(status.code());
    call_->Finish(status);
  }
};

class Collecting : public Generation<GenerateCall> {
 public:
  explicit Collecting(const CallerContext& context, std::shared_ptr<GenerateCall> call)
      : Generation(context, std::move(call), "Generate") {}

  void Start() {
    if (absl::Status status = Generation::Start(*call_->request().mutable_generation()); !status.ok()) return Fail(status);
    OnReadable();
  }

  void OnReadable() override {
    while (std::optional<relay::Outbox::Item> item = context_.relay.Read(stream_)) {
      if (item->message.has_value()) {
        collector_.Add(*item->message);
        continue;
      }
      if (!item->end->ok()) return Fail(*item->end);
      Ended(absl::StatusCode::kOk);
      AddPlacement(call_->context(), collector_.response().started());
      return call_->Finish(collector_.response());
    }
  }

  void OnGivenUp(const absl::Status& status) override { Fail(status); }

 private:
  void Fail(const absl::Status& status) {
    Ended(status.code());
    call_->Fail(status);
  }

  rpc::Collector collector_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const rpc::Tenant>> Authenticate(const CallerContext& context, const rpc::ServerCall& call) {
  return context.authenticator.Authenticate(call.metadata("authorization"));
}

void RunStreamGenerate(const CallerContext& context, std::shared_ptr<StreamGenerateCall> call) {
  std::make_shared<Streaming>(context, std::move(call))->Start();
}

void RunGenerate(const CallerContext& context, std::shared_ptr<GenerateCall> call) {
  std::make_shared<Collecting>(context, std::move(call))->Start();
}

}  // namespace berth::gateway
