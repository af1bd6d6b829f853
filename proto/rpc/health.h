#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "proto/grpc/health/v1/health.grpc.pb.h"
#include "proto/rpc/server.h"

namespace berth::rpc {

// grpc.health.v1 with the services "" (the process), "liveness" and "readiness". Outlives its server. Thread-safe.
class HealthService {
 public:
  HealthService();

  // Before server.Start(). One HealthService may serve several servers.
  void AddTo(Server& server);
  // "liveness"; "readiness" and "" follow `ready`.
  void SetLive(bool live);
  void SetReady(bool ready);
  bool live() const;
  bool ready() const;
  // Ends all watches, so that they do not hold a server's shutdown up.
  void EndWatches();

 private:
  using Status = grpc::health::v1::HealthCheckResponse;
  using WatchCall = ServerStreamCall<grpc::health::v1::HealthCheckRequest, Status>;
  struct Watch;

  void Set(const std::vector<std::string>& services, bool serving);
  Status::ServingStatus Get(const std::string& service) const;
  void Send(const std::shared_ptr<Watch>& watch);

  std::vector<std::unique_ptr<grpc::health::v1::Health::AsyncService>> services_;  // one per server
  mutable base::Mutex mutex_;
  std::map<std::string, bool> serving_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<Watch>> watches_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace berth::rpc
