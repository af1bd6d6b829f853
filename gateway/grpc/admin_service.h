#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gateway/relay/relay.h"
#include "proto/berth/v1/admin.grpc.pb.h"
#include "proto/rpc/server.h"
#include "proto/rpc/shard.h"

namespace berth::gateway {

// AdminService of a gateway. A drain turns readiness off at once and refuses new generations a while later, when load balancers
// have noticed; what runs goes on. Outlives its server.
class AdminService {
 public:
  struct Parts {
    relay::Relay& relay;
    // Owns the relay, and outlives this service's server.
    rpc::Shard& relay_shard;
    // On the relay's shard.
    std::function<void(bool draining)> on_drain;
    // INVALID_ARGUMENT for an unknown level. Thread-safe.
    std::function<absl::Status(const std::string& level)> set_log_level;
    absl::Duration drain_accept = absl::Seconds(5);
  };
  explicit AdminService(Parts parts) : parts_(std::move(parts)) {}

  // Before server.Start().
  void AddTo(rpc::Server& server);

 private:
  using DrainCall = rpc::ServerStreamCall<v1::DrainRequest, v1::DrainResponse>;

  // On the relay's shard.
  void Drain();
  void Undrain();
  void Report(const std::shared_ptr<DrainCall>& call);

  const Parts parts_;
  v1::AdminService::AsyncService service_;
  bool draining_ = false;
  uint64_t drains_ = 0;
};

// What AdminService tells of the workers.
v1::ListWorkersResponse ListWorkers(const routing::ClusterView& view);

}  // namespace berth::gateway
