#include "proto/rpc/health.h"

#include <optional>

#include "absl/strings/str_cat.h"

namespace berth::rpc {

using grpc::health::v1::Health;
using grpc::health::v1::HealthCheckRequest;

struct HealthService::Watch {
  std::shared_ptr<WatchCall> call;
  std::optional<Status::ServingStatus> sent;
};

HealthService::HealthService() {
  base::MutexLock lock(mutex_);
  serving_ = {{"", false}, {"liveness", true}, {"readiness", false}};
}

void HealthService::AddTo(Server& server) {
  services_.push_back(std::make_unique<Health::AsyncService>());
  Health::AsyncService& service = *services_.back();
  server.Register(service);
  server.AddUnary(service, &Health::AsyncService::RequestCheck,
                  [this](std::shared_ptr<UnaryCall<HealthCheckRequest, Status>> call) {
                    Status response;
                    response.set_status(Get(call->request().service()));
                    if (response.status() == Status::SERVICE_UNKNOWN) {
                      call->Fail(absl::NotFoundError(absl::StrCat("no service \"", call->request().service(), "\"")));
                    } else {
                      call->Finish(response);
                    }
                  });
  server.AddServerStream(service, &Health::AsyncService::RequestWatch, [this](std::shared_ptr<WatchCall> call) {
    auto watch = std::make_shared<Watch>();
    watch->call = call;
    call->OnWritten([this, watch] { Send(watch); });
    {
      base::MutexLock lock(mutex_);
      std::erase_if(watches_, [](const std::weak_ptr<Watch>& old) { return old.expired(); });
      watches_.push_back(watch);
    }
    Send(watch);
  });
}

void HealthService::SetLive(bool live) { Set({"liveness"}, live); }
void HealthService::SetReady(bool ready) { Set({"", "readiness"}, ready); }

bool HealthService::live() const { return Get("liveness") == Status::SERVING; }
bool HealthService::ready() const { return Get("readiness") == Status::SERVING; }

void HealthService::EndWatches() {
  std::vector<std::weak_ptr<Watch>> watches;
  {
    base::MutexLock lock(mutex_);
    watches = watches_;
  }
  for (const std::weak_ptr<Watch>& weak : watches) {
    if (auto watch = weak.lock())
      watch->call->shard().Post([watch] { watch->call->Finish(absl::UnavailableError("shutting down")); });
  }
}

void HealthService::Set(const std::vector<std::string>& services, bool serving) {
  std::vector<std::weak_ptr<Watch>> watches;
  {
    base::MutexLock lock(mutex_);
    for (const std::string& service : services) serving_[service] = serving;
    watches = watches_;
  }
  for (const std::weak_ptr<Watch>& weak : watches) {
    if (auto watch = weak.lock()) watch->call->shard().Post([this, watch] { Send(watch); });
  }
}

HealthService::Status::ServingStatus HealthService::Get(const std::string& service) const {
  base::MutexLock lock(mutex_);
  const auto it = serving_.find(service);
  if (it == serving_.end()) return Status::SERVICE_UNKNOWN;
  return it->second ? Status::SERVING : Status::NOT_SERVING;
}

void HealthService::Send(const std::shared_ptr<Watch>& watch) {
  const Status::ServingStatus now = Get(watch->call->request().service());
  if (watch->call->writing() || watch->sent == now) return;
  watch->sent = now;
  Status response;
  response.set_status(now);
  watch->call->Write(response);
}

}  // namespace berth::rpc
