#pragma once

#include <memory>
#include <vector>

#include "gateway/routing/worker_list.h"
#include "grpcpp/security/credentials.h"
#include "proto/berth/v1/inference.grpc.pb.h"
#include "proto/berth/v1/session.grpc.pb.h"

namespace berth::gateway {

// The plain rpcs of each discovered worker, over one channel per worker. Thread: one shard.
class WorkerStubs {
 public:
  WorkerStubs(const std::vector<routing::WorkerAddress>& workers, const std::shared_ptr<grpc::ChannelCredentials>& credentials);

  v1::InferenceService::Stub& inference(int worker) { return *workers_[worker].inference; }
  v1::SessionService::Stub& session(int worker) { return *workers_[worker].session; }

 private:
  struct Worker {
    std::unique_ptr<v1::InferenceService::Stub> inference;
    std::unique_ptr<v1::SessionService::Stub> session;
  };
  std::vector<Worker> workers_;
};

}  // namespace berth::gateway
