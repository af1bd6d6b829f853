#include "clients/cpp/client.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "proto/rpc/status.h"

namespace berth::client {
namespace {

absl::Status Abandoned() { return absl::CancelledError("the generation was abandoned"); }

}  // namespace

absl::StatusOr<std::unique_ptr<Client>> Client::Make(const ClientOptions& options) {
  BERTH_ASSIGN_OR_RETURN(std::unique_ptr<Gateways> gateways, Gateways::Make(options));
  return std::unique_ptr<Client>(new Client(std::move(gateways), options.retry));
}

absl::Status Client::Generate(const v1::GenerationSpec& generation,
                              const std::function<void(v1::StreamGenerateResponse&)>& on_message, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  absl::BitGen random;
  Progress progress(generation, retry_, random, absl::Now());
  Running running;
  std::multimap<std::string, Running*>::iterator entry;
  {
    base::MutexLock lock(mutex_);
    entry = running_.emplace(progress.request_id(), &running);
  }
  const absl::Cleanup gone = [&] {
    base::MutexLock lock(mutex_);
    running_.erase(entry);
  };
  for (int gateway = gateways_->TakeTurn();; ++gateway) {
    const absl::Status status = Attempt(progress, running, gateway, deadline, on_message);
    if (status.ok()) return status;
    const std::optional<absl::Duration> delay = progress.Retry(status, gateways_->size(), random);
    if (!delay.has_value() || !Wait(running, *delay, deadline)) return status;
  }
}

absl::Status Client::Attempt(Progress& progress, Running& running, int gateway, absl::Time deadline,
                             const std::function<void(v1::StreamGenerateResponse&)>& on_message) {
  const std::string& session = progress.request().generation().session_id();
  grpc::ClientContext context;
  if (deadline != absl::InfiniteFuture()) context.set_deadline(absl::ToChronoTime(deadline));
  for (const auto& [key, value] : gateways_->MetadataFor(session)) context.AddMetadata(key, value);
  {
    base::MutexLock lock(mutex_);
    if (running.abandoned) return Abandoned();
    running.context = &context;
  }
  const auto stream = gateways_->inference(gateway).StreamGenerate(&context, progress.request());
  absl::Status taken;
  v1::StreamGenerateResponse message;
  while (taken.ok() && stream->Read(&message)) {
    taken = progress.Take(message);
    if (!taken.ok()) break;
    gateways_->Note(session, message);
    on_message(message);
  }
  if (!taken.ok()) context.TryCancel();
  const absl::Status ended = rpc::FromGrpc(stream->Finish());
  base::MutexLock lock(mutex_);
  running.context = nullptr;
  if (running.abandoned) return Abandoned();
  if (progress.finished() || !taken.ok()) return taken;
  return ended;
}

bool Client::Wait(Running& running, absl::Duration delay, absl::Time deadline) {
  const absl::Time until = absl::Now() + delay;
  if (until >= deadline) return false;
  base::MutexLock lock(mutex_);
  while (!running.abandoned) {
    const absl::Duration left = until - absl::Now();
    if (left <= absl::ZeroDuration()) return true;
    changed_.WaitFor(mutex_, left);
  }
  return false;
}

void Client::Abandon(const std::string& request_id) {
  base::MutexLock lock(mutex_);
  const auto [first, last] = running_.equal_range(request_id);
  for (auto entry = first; entry != last; ++entry) {
    entry->second->abandoned = true;
    if (entry->second->context != nullptr) entry->second->context->TryCancel();
  }
  changed_.NotifyAll();
}

template <typename Request, typename Response, typename Call>
absl::StatusOr<Response> Client::Ask(const Request& request, absl::Duration timeout, const Call& call) {
  const absl::Time deadline = absl::Now() + timeout;
  absl::Status status;
  for (int tried = 0, gateway = gateways_->TakeTurn(); tried < gateways_->size(); ++tried, ++gateway) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(deadline));
    for (const auto& [key, value] : gateways_->MetadataFor("")) context.AddMetadata(key, value);
    Response response;
    status = rpc::FromGrpc(call(gateway, &context, request, &response));
    if (status.ok()) return response;
    if (!absl::IsUnavailable(status)) break;
  }
  return status;
}

absl::StatusOr<bool> Client::Cancel(const v1::CancelRequest& request, absl::Duration timeout) {
  BERTH_ASSIGN_OR_RETURN(const v1::CancelResponse response,
                         (Ask<v1::CancelRequest, v1::CancelResponse>(request, timeout, [&](int gateway, auto... arguments) {
                           return gateways_->inference(gateway).Cancel(arguments...);
                         })));
  return response.found();
}

absl::StatusOr<v1::CloseSessionResponse> Client::CloseSession(const v1::CloseSessionRequest& request, absl::Duration timeout) {
  return Ask<v1::CloseSessionRequest, v1::CloseSessionResponse>(
      request, timeout, [&](int gateway, auto... arguments) { return gateways_->session(gateway).CloseSession(arguments...); });
}

}  // namespace berth::client
