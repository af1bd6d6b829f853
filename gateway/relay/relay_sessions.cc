// Where sessions are (rule 18): what this gateway remembers, and what workers say.

#include "absl/strings/numbers.h"
#include "gateway/relay/placement.h"
#include "gateway/relay/relay_state.h"
#include "gateway/routing/rendezvous.h"
#include "google/protobuf/util/time_util.h"
#include "proto/rpc/incarnation.h"

namespace berth::relay {

bool Relay::Locate(Stream& stream) {
  const v1::GenerationSpec& spec = stream.spec();
  if (std::exchange(stream.located, true) || spec.session_id().empty() || spec.session().start()) return false;
  const routing::RouteRequest request = RouteRequestFor(stream.generation);
  const Placement* const known = placements_.Find(*request.key);
  if (known != nullptr && routing::CanHold(view_, known->worker, request) &&
      rpc::IncarnationNumber(view_.worker(known->worker).incarnation) == known->incarnation) {
    KeepOrMove(stream, known->worker, clock_.Monotonic() - known->used);
    return false;
  }
  if (!lookup_) return false;
  const std::vector<int> holders = routing::PossibleHolders(
      view_, request, HintedWorker(stream.generation.request().worker_hint), clock_.Now() - options_.session_ttl);
  stream.lookups = static_cast<int>(holders.size());
  v1::HasSessionRequest question;
  question.set_tenant(stream.generation.request().tenant);
  question.set_model(spec.model());
  question.set_session_id(spec.session_id());
  for (int worker : holders) {
    lookup_(worker, question, [this, id = stream.id, worker](const absl::Status& status, const auto& response) {
      HandleLookup(id, worker, status, response);
    });
  }
  return !holders.empty();
}

void Relay::HandleLookup(uint64_t id, int worker, const absl::Status& status, const v1::HasSessionResponse& response) {
  const auto it = streams_.find(id);
  if (it == streams_.end() || it->second->state == State::kEnded) return;
  const Turn turn(*this);
  Stream& stream = *it->second;
  if (status.ok() && response.found()) {
    const absl::Duration idle = absl::Nanoseconds(google::protobuf::util::TimeUtil::DurationToNanoseconds(response.idle()));
    const bool is_newer = response.version() > stream.holder_version ||
                          (response.version() == stream.holder_version && idle < stream.holder_idle);
    if (stream.holder < 0 || is_newer) {
      stream.holder = worker;
      stream.holder_version = response.version();
      stream.holder_idle = idle;
    }
  }
  if (--stream.lookups > 0) return;
  if (stream.holder >= 0 && routing::CanHold(view_, stream.holder, RouteRequestFor(stream.generation))) {
    KeepOrMove(stream, stream.holder, stream.holder_idle);
    stream.hinted = stream.held_by >= 0 && stream.held_by == HintedWorker(stream.generation.request().worker_hint);
  }
  Place(stream);
}

void Relay::KeepOrMove(Stream& stream, int worker, absl::Duration idle) {
  const routing::RouteRequest request = RouteRequestFor(stream.generation);
  stream.moved = idle >= options_.move_idle && routing::MoveTarget(view_, request, worker, clock_.Monotonic()) >= 0;
  stream.held_by = stream.moved ? -1 : worker;
}

void Relay::NotePlacement(const Stream& stream) {
  if (stream.spec().session_id().empty()) return;
  placements_.Set(routing::SessionKey(stream.generation.request().tenant, stream.spec().session_id()),
                  {.worker = stream.worker,
                   .incarnation = rpc::IncarnationNumber(view_.worker(stream.worker).incarnation),
                   .used = clock_.Monotonic()});
}

// A hint counts only if it names the worker's running incarnation; the worker itself is asked whether it is right.
int Relay::HintedWorker(const std::string& hint) const {
  const size_t slash = hint.rfind('/');
  uint64_t incarnation = 0;
  if (slash == std::string::npos || !absl::SimpleAtoi(hint.substr(slash + 1), &incarnation)) return -1;
  const int worker = view_.Find(hint.substr(0, slash));
  if (worker < 0 || rpc::IncarnationNumber(view_.worker(worker).incarnation) != incarnation) return -1;
  return worker;
}

int Relay::OwnerOf(const std::string& tenant, const std::string& session_id) const {
  const uint64_t key = routing::SessionKey(tenant, session_id);
  const Placement* const known = placements_.Find(key);
  if (known != nullptr && view_.worker(known->worker).link == routing::LinkState::kUp &&
      rpc::IncarnationNumber(view_.worker(known->worker).incarnation) == known->incarnation) {
    return known->worker;
  }
  return routing::SessionOwner(view_, key);
}

}  // namespace berth::relay
