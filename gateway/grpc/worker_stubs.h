#pragma once

#include <memory>
#include <string>
#include <vector>

#include "gateway/routing/cluster_view.h"
#include "grpcpp/security/credentials.h"
#include "proto/berth/v1/inference.grpc.pb.h"
#include "proto/berth/v1/session.grpc.pb.h"
#include "proto/berth/v1/worker.grpc.pb.h"

namespace berth::gateway {

// The plain rpcs of each worker in `view`, over one channel per worker. Thread: one shard.
class WorkerStubs {
 public:
  WorkerStubs(const routing::ClusterView& view, std::shared_ptr<grpc::ChannelCredentials> credentials)
      : view_(view), credentials_(std::move(credentials)) {}

  v1::InferenceService::Stub& inference(int worker) { return *Of(worker).inference; }
  v1::SessionService::Stub& session(int worker) { return *Of(worker).session; }
  v1::WorkerService::Stub& worker(int worker) { return *Of(worker).worker; }

 private:
  struct Worker {
    std::string address;
    std::unique_ptr<v1::InferenceService::Stub> inference;
    std::unique_ptr<v1::SessionService::Stub> session;
    std::unique_ptr<v1::WorkerService::Stub> worker;
  };

  // Made when first needed, and again when another worker has taken the index.
  Worker& Of(int worker);

  const routing::ClusterView& view_;
  const std::shared_ptr<grpc::ChannelCredentials> credentials_;
  std::vector<Worker> workers_;
};

}  // namespace berth::gateway
