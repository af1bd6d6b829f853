#include "clients/cpp/async_client.h"

#include <optional>
#include <utility>

#include "absl/time/clock.h"
#include "proto/rpc/client_call.h"

namespace berth::client {

// Kept alive by its call's callbacks, or by its timer.
class AsyncClient::Generation : public Call, public std::enable_shared_from_this<Generation> {
 public:
  Generation(AsyncClient& client, v1::GenerationSpec generation, absl::Duration timeout, OnMessage on_message, OnEnd on_end)
      : client_(client),
        progress_(std::move(generation), client.retry_, client.random_, absl::Now()),
        deadline_(absl::Now() + timeout),
        gateway_(client.gateways_->TakeTurn()),
        on_message_(std::move(on_message)),
        on_end_(std::move(on_end)) {}

  void Begin() {
    const v1::StreamGenerateRequest& request = progress_.request();
    const rpc::CallOptions options{.timeout = deadline_ - absl::Now(),
                                   .metadata = client_.gateways_->MetadataFor(request.generation().session_id())};
    call_ = rpc::CallServerStream(
        client_.shard_, client_.gateways_->inference(gateway_++), &v1::InferenceService::Stub::PrepareAsyncStreamGenerate,
        request, options, [self = shared_from_this()](v1::StreamGenerateResponse& message) { self->Read(message); },
        [self = shared_from_this()](const absl::Status& status) { self->Ended(status); });
  }

  void Cancel() override {
    cancelled_ = true;
    if (call_ != nullptr) return call_->Cancel();
    if (!timer_.has_value()) return;
    client_.shard_.CancelTimer(*std::exchange(timer_, std::nullopt));
    client_.shard_.Post([self = shared_from_this()] { self->End(absl::CancelledError("cancelled")); });
  }

 private:
  void Read(v1::StreamGenerateResponse& message) {
    if (!lost_.ok()) return;
    lost_ = progress_.Take(message);
    if (!lost_.ok()) return call_->Cancel();
    client_.gateways_->Note(progress_.request().generation().session_id(), message);
    on_message_(message);
  }

  void Ended(const absl::Status& status) {
    call_ = nullptr;
    if (progress_.finished() || !lost_.ok()) return End(lost_);
    if (cancelled_ || status.ok()) return End(status);
    const std::optional<absl::Duration> delay = progress_.Retry(status, client_.gateways_->size(), client_.random_);
    if (!delay.has_value() || absl::Now() + *delay >= deadline_) return End(status);
    timer_ = client_.shard_.After(*delay, [self = shared_from_this()] {
      self->timer_.reset();
      self->Begin();
    });
  }

  void End(const absl::Status& status) {
    OnEnd on_end = std::move(on_end_);
    on_message_ = nullptr;
    on_end(status);
  }

  AsyncClient& client_;
  Progress progress_;
  const absl::Time deadline_;
  int gateway_;
  OnMessage on_message_;
  OnEnd on_end_;
  std::shared_ptr<rpc::ClientCall> call_;
  std::optional<rpc::Shard::TimerId> timer_;
  bool cancelled_ = false;
  absl::Status lost_;  // a message did not follow
};

std::shared_ptr<AsyncClient::Call> AsyncClient::Start(v1::GenerationSpec generation, absl::Duration timeout,
                                                      OnMessage on_message, OnEnd on_end) {
  auto started = std::make_shared<Generation>(*this, std::move(generation), timeout, std::move(on_message), std::move(on_end));
  started->Begin();
  return started;
}

}  // namespace berth::client
