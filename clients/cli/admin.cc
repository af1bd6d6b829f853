#include "clients/cli/admin.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "clients/cli/api_key.h"
#include "clients/cli/message_json.h"
#include "grpcpp/client_context.h"
#include "proto/berth/v1/admin.grpc.pb.h"
#include "proto/berth/v1/session.grpc.pb.h"
#include "proto/rpc/status.h"

namespace berth::cli {
namespace {

using Admin = v1::AdminService;

constexpr absl::Duration kTimeout = absl::Seconds(10);

void SetTimeout(grpc::ClientContext& context, absl::Duration timeout) {
  if (timeout != absl::InfiniteDuration()) context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
}

// "ready", "draining", …
std::string StateName(v1::WorkerState state) {
  return absl::AsciiStrToLower(v1::WorkerState_Name(state).substr(sizeof("WORKER_STATE_") - 1));
}

}  // namespace

absl::Status AdminListWorkers(const std::shared_ptr<grpc::Channel>& channel, bool json, std::ostream& out) {
  grpc::ClientContext context;
  SetTimeout(context, kTimeout);
  v1::ListWorkersResponse response;
  if (const grpc::Status status = Admin::Stub(channel).ListWorkers(&context, {}, &response); !status.ok()) {
    return rpc::FromGrpc(status);
  }
  if (json) return WriteJson(response, out);
  constexpr char kRow[] = "%-20s %-24s %-10s %8s %8s %8s %10s %9s\n";
  out << absl::StrFormat(kRow, "WORKER", "ADDRESS", "STATE", "RUNNING", "WAITING", "SLOTS", "KV USED", "SESSIONS");
  for (const v1::ListWorkersResponse::Worker& worker : response.workers()) {
    const v1::LoadReport& load = worker.load();
    const std::string used = absl::StrFormat("%.1f %%", 100.0 * load.kv_blocks_used() / std::max(load.kv_blocks_total(), 1));
    out << absl::StrFormat(kRow, worker.worker_id(), worker.address(),
                           worker.connected() ? StateName(load.state()) : "not there", absl::StrCat(load.running()),
                           absl::StrCat(load.waiting()), absl::StrCat(load.slots()), used, absl::StrCat(load.open_sessions()));
  }
  return absl::OkStatus();
}

absl::Status AdminDrain(const std::shared_ptr<grpc::Channel>& channel, absl::Duration timeout, std::ostream& out) {
  grpc::ClientContext context;
  SetTimeout(context, timeout);
  const auto stream = Admin::Stub(channel).Drain(&context, {});
  v1::DrainResponse response;
  std::string last;
  while (stream->Read(&response)) {
    std::string line =
        absl::StrCat(StateName(response.state()), ": ", response.running(), " running, ", response.waiting(), " waiting");
    if (line == last) continue;
    out << line << std::endl;
    last = std::move(line);
  }
  const absl::Status status = rpc::FromGrpc(stream->Finish());
  if (status.ok() && response.state() != v1::WORKER_STATE_DRAINING) {
    return absl::AbortedError(absl::StrCat("the drain was ended: the state is ", StateName(response.state())));
  }
  return status;
}

absl::Status AdminUndrain(const std::shared_ptr<grpc::Channel>& channel, std::ostream& out) {
  grpc::ClientContext context;
  SetTimeout(context, kTimeout);
  v1::UndrainResponse response;
  const grpc::Status status = Admin::Stub(channel).Undrain(&context, {}, &response);
  if (status.ok()) out << StateName(response.state()) << std::endl;
  return rpc::FromGrpc(status);
}

absl::Status AdminSetLogLevel(const std::shared_ptr<grpc::Channel>& channel, const std::string& level) {
  grpc::ClientContext context;
  SetTimeout(context, kTimeout);
  v1::SetLogLevelRequest request;
  request.set_level(level);
  v1::SetLogLevelResponse response;
  return rpc::FromGrpc(Admin::Stub(channel).SetLogLevel(&context, request, &response));
}

absl::Status AdminShowSession(const std::shared_ptr<grpc::Channel>& channel, const std::string& api_key,
                              const std::string& model, const std::string& session_id, bool json, std::ostream& out) {
  grpc::ClientContext context;
  SetTimeout(context, kTimeout);
  AddApiKey(context, api_key);
  v1::GetSessionRequest request;
  request.set_session_id(session_id);
  request.set_model(model);
  v1::GetSessionResponse response;
  if (const grpc::Status status = v1::SessionService::Stub(channel).GetSession(&context, request, &response); !status.ok()) {
    return rpc::FromGrpc(status);
  }
  if (json) return WriteJson(response, out);
  out << absl::StrFormat(
      "session   %s\nworker    %s\nposition  %d tokens\nversion   %d\nidle      %d s\nbusy      %s\ndurable   %s\n",
      response.session_id(), response.worker_id(), response.position(), response.version(), response.idle().seconds(),
      response.busy() ? "yes" : "no", response.durable() ? "yes" : "no");
  return absl::OkStatus();
}

}  // namespace berth::cli
