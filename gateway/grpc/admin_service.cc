#include "gateway/grpc/admin_service.h"

#include <utility>

namespace berth::gateway {
namespace {

absl::Status Unimplemented() { return absl::UnimplementedError("a gateway does not offer this rpc"); }

}  // namespace

void AdminService::AddTo(rpc::Server& server) {
  using Service = v1::AdminService::AsyncService;
  server.Register(service_);
  server.AddUnary(service_, &Service::RequestListWorkers, [this](auto call) {
    relay_shard_.Post([this, call = std::move(call)]() mutable {
      rpc::Shard& shard = call->shard();
      shard.Post([call = std::move(call), response = ListWorkers(relay_.view())] { call->Finish(response); });
    });
  });
  server.AddServerStream(service_, &Service::RequestDrain, [](auto call) { call->Finish(Unimplemented()); });
  server.AddUnary(service_, &Service::RequestUndrain, [](auto call) { call->Fail(Unimplemented()); });
  server.AddUnary(service_, &Service::RequestSetLogLevel, [](auto call) { call->Fail(Unimplemented()); });
}

v1::ListWorkersResponse ListWorkers(const routing::ClusterView& view) {
  v1::ListWorkersResponse response;
  for (int i = 0; i < view.size(); ++i) {
    const routing::WorkerView& worker = view.worker(i);
    if (!worker.discovered) continue;
    v1::ListWorkersResponse::Worker& entry = *response.add_workers();
    entry.set_worker_id(worker.address.id);
    entry.set_address(worker.address.address);
    entry.set_connected(worker.link == routing::LinkState::kUp);
    *entry.mutable_incarnation() = worker.incarnation;
    *entry.mutable_load() = worker.load;
  }
  return response;
}

}  // namespace berth::gateway
