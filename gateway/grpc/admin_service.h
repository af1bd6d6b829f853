#pragma once

#include "gateway/relay/relay.h"
#include "proto/berth/v1/admin.grpc.pb.h"
#include "proto/rpc/server.h"
#include "proto/rpc/shard.h"

namespace berth::gateway {

// AdminService of a gateway: ListWorkers. Drain, Undrain and SetLogLevel are UNIMPLEMENTED. Outlives its server.
class AdminService {
 public:
  // `relay_shard` owns the relay, and outlives this service's server.
  AdminService(relay::Relay& relay, rpc::Shard& relay_shard) : relay_(relay), relay_shard_(relay_shard) {}

  // Before server.Start().
  void AddTo(rpc::Server& server);

 private:
  relay::Relay& relay_;
  rpc::Shard& relay_shard_;
  v1::AdminService::AsyncService service_;
};

// What AdminService tells of the workers.
v1::ListWorkersResponse ListWorkers(const routing::ClusterView& view);

}  // namespace berth::gateway
