#include "gateway/grpc/admin_service.h"

#include <utility>

namespace berth::gateway {
namespace {

constexpr absl::Duration kReportInterval = absl::Seconds(1);

}  // namespace

void AdminService::AddTo(rpc::Server& server) {
  using Service = v1::AdminService::AsyncService;
  server.Register(service_);
  server.AddUnary(service_, &Service::RequestListWorkers, [this](auto call) {
    parts_.relay_shard.Post([this, call = std::move(call)]() mutable {
      rpc::Shard& shard = call->shard();
      shard.Post([call = std::move(call), response = ListWorkers(parts_.relay.view())] { call->Finish(response); });
    });
  });
  server.AddServerStream(service_, &Service::RequestDrain, [this](auto call) {
    parts_.relay_shard.Post([this, call] {
      Drain();
      Report(call);
    });
  });
  server.AddUnary(service_, &Service::RequestUndrain, [this](auto call) {
    parts_.relay_shard.Post([this, call] {
      Undrain();
      v1::UndrainResponse response;
      response.set_state(v1::WORKER_STATE_READY);
      call->shard().Post([call, response] { call->Finish(response); });
    });
  });
  server.AddUnary(service_, &Service::RequestSetLogLevel, [this](auto call) {
    const absl::Status status = parts_.set_log_level(call->request().level());
    if (!status.ok()) return call->Fail(status);
    call->Finish({});
  });
}

void AdminService::Drain() {
  if (std::exchange(draining_, true)) return;
  parts_.on_drain(true);
  parts_.relay_shard.After(parts_.drain_accept, [this, drain = ++drains_] {
    if (draining_ && drain == drains_) parts_.relay.SetDraining(true);
  });
}

void AdminService::Undrain() {
  if (!std::exchange(draining_, false)) return;
  parts_.relay.SetDraining(false);
  parts_.on_drain(false);
}

// One report now, and one each second until nothing runs.
void AdminService::Report(const std::shared_ptr<DrainCall>& call) {
  v1::DrainResponse response;
  response.set_state(draining_ ? v1::WORKER_STATE_DRAINING : v1::WORKER_STATE_READY);
  response.set_waiting(parts_.relay.waiting());
  response.set_running(parts_.relay.open_streams() - parts_.relay.waiting());
  const bool over = !draining_ || (parts_.relay.draining() && parts_.relay.open_streams() == 0);
  call->shard().Post([this, call, response, over] {
    if (call->ended()) return;
    if (!call->writing()) {
      if (over) return call->WriteAndFinish(response);
      call->Write(response);
    }
    call->shard().After(kReportInterval, [this, call] {
      if (!call->ended()) parts_.relay_shard.Post([this, call] { Report(call); });
    });
  });
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
