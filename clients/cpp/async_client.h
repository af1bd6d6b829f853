#pragma once

#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/random/random.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "clients/cpp/gateways.h"
#include "proto/rpc/shard.h"

namespace berth::client {

// Client for programs with many generations at once, on one shard: nothing blocks, callbacks run on the shard's thread.
// Thread: the shard's.
class AsyncClient {
 public:
  using OnMessage = absl::AnyInvocable<void(v1::StreamGenerateResponse&)>;
  using OnEnd = absl::AnyInvocable<void(const absl::Status&)>;

  // A generation of this client.
  class Call {
   public:
    virtual ~Call() = default;
    // It ends CANCELLED soon.
    virtual void Cancel() = 0;
  };

  // `shard` outlives the client, and the client its generations.
  AsyncClient(std::unique_ptr<Gateways> gateways, const RetryOptions& retry, rpc::Shard& shard)
      : gateways_(std::move(gateways)), retry_(retry), shard_(shard) {}

  // As Client::Generate; `on_end` runs once, last, not during this call.
  std::shared_ptr<Call> Start(v1::GenerationSpec generation, absl::Duration timeout, OnMessage on_message, OnEnd on_end);

  Gateways& gateways() { return *gateways_; }

 private:
  class Generation;

  const std::unique_ptr<Gateways> gateways_;
  const RetryOptions retry_;
  rpc::Shard& shard_;
  absl::BitGen random_;
};

}  // namespace berth::client
