#include "gateway/grpc/worker_stubs.h"

#include "proto/rpc/channel.h"

namespace berth::gateway {

WorkerStubs::Worker& WorkerStubs::Of(int worker) {
  if (static_cast<int>(workers_.size()) <= worker) workers_.resize(worker + 1);
  Worker& stubs = workers_[worker];
  const std::string& address = view_.worker(worker).address.address;
  if (stubs.address == address) return stubs;
  const std::shared_ptr<grpc::Channel> channel = rpc::MakeChannel(address, credentials_);
  stubs = {.address = address,
           .inference = v1::InferenceService::NewStub(channel),
           .session = v1::SessionService::NewStub(channel),
           .worker = v1::WorkerService::NewStub(channel)};
  return stubs;
}

}  // namespace berth::gateway
