#pragma once

#include <memory>

#include "gateway/relay/link_transport.h"
#include "gateway/relay/timers.h"
#include "grpcpp/security/credentials.h"
#include "proto/rpc/shard.h"

namespace berth::relay {

// Links over gRPC, on `shard`, which outlives them. Each attempt has a connection of its own.
LinkFactory GrpcLinkFactory(rpc::Shard& shard, std::shared_ptr<grpc::ChannelCredentials> credentials);

// A shard's timers.
class ShardTimers : public Timers {
 public:
  explicit ShardTimers(rpc::Shard& shard) : shard_(shard) {}
  Id After(absl::Duration delay, absl::AnyInvocable<void()> function) override {
    return shard_.After(delay, std::move(function));
  }
  void Cancel(Id id) override { shard_.CancelTimer(id); }

 private:
  rpc::Shard& shard_;
};

}  // namespace berth::relay
