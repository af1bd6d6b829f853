#include "gateway/grpc/worker_stubs.h"

#include "proto/rpc/channel.h"

namespace berth::gateway {

WorkerStubs::WorkerStubs(const std::vector<routing::WorkerAddress>& workers,
                         const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  for (const routing::WorkerAddress& worker : workers) {
    const std::shared_ptr<grpc::Channel> channel = rpc::MakeChannel(worker.address, credentials);
    workers_.push_back({.inference = v1::InferenceService::NewStub(channel), .session = v1::SessionService::NewStub(channel)});
  }
}

}  // namespace berth::gateway
