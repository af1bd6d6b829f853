#include "gateway/relay/session_locator.h"

#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "gateway/relay/placement.h"
#include "gateway/routing/rendezvous.h"
#include "google/protobuf/util/time_util.h"
#include "proto/rpc/incarnation.h"

namespace berth::relay {

SessionLocator::SessionLocator(const Options& options, const routing::ClusterView& view, const base::Clock& clock,
                               SessionLookup lookup)
    : options_(options), view_(view), clock_(clock), lookup_(std::move(lookup)) {}

bool SessionLocator::Begin(const GenerationStream& stream, SessionSearch& search, const Answer& answer) {
  const v1::GenerationSpec& spec = stream.request().spec;
  if (std::exchange(search.begun, true) || spec.session_id().empty() || spec.session().start()) return false;
  const routing::RouteRequest request = RouteRequestFor(stream);
  const Placement* const known = placements_.Find(*request.key);
  if (known != nullptr && routing::CanHold(view_, known->worker, request) &&
      IncarnationOf(known->worker) == known->incarnation) {
    KeepOrMove(stream, search, known->worker, clock_.Monotonic() - known->used);
    return false;
  }
  if (!lookup_) return false;
  const std::vector<int> holders =
      routing::PossibleHolders(view_, request, HintedWorker(stream.request().worker_hint), clock_.Now() - options_.session_ttl);
  search.lookups = static_cast<int>(holders.size());
  v1::HasSessionRequest question;
  question.set_tenant(stream.request().tenant);
  question.set_model(spec.model());
  question.set_session_id(spec.session_id());
  for (int worker : holders) {
    lookup_(worker, question,
            [answer, worker](const absl::Status& status, const auto& response) { answer(worker, status, response); });
  }
  return !holders.empty();
}

bool SessionLocator::Heard(const GenerationStream& stream, SessionSearch& search, int worker, const absl::Status& status,
                           const v1::HasSessionResponse& response) {
  if (status.ok() && response.found()) {
    const absl::Duration idle = absl::Nanoseconds(google::protobuf::util::TimeUtil::DurationToNanoseconds(response.idle()));
    const bool is_newer = response.version() > search.holder_version ||
                          (response.version() == search.holder_version && idle < search.holder_idle);
    if (search.holder < 0 || is_newer) {
      search.holder = worker;
      search.holder_version = response.version();
      search.holder_idle = idle;
    }
  }
  if (--search.lookups > 0) return false;
  if (search.holder >= 0 && routing::CanHold(view_, search.holder, RouteRequestFor(stream))) {
    KeepOrMove(stream, search, search.holder, search.holder_idle);
    search.hinted = search.held_by >= 0 && search.held_by == HintedWorker(stream.request().worker_hint);
  }
  return true;
}

void SessionLocator::KeepOrMove(const GenerationStream& stream, SessionSearch& search, int worker, absl::Duration idle) const {
  search.moved =
      idle >= options_.move_idle && routing::MoveTarget(view_, RouteRequestFor(stream), worker, clock_.Monotonic()) >= 0;
  search.held_by = search.moved ? -1 : worker;
}

void SessionLocator::Note(const GenerationStream& stream, int worker) {
  const GenerationRequest& request = stream.request();
  if (request.spec.session_id().empty()) return;
  placements_.Set(routing::SessionKey(request.tenant, request.spec.session_id()),
                  {.worker = worker, .incarnation = IncarnationOf(worker), .used = clock_.Monotonic()});
}

// A hint counts only if it names the worker's running incarnation; the worker itself is asked whether it is right.
int SessionLocator::HintedWorker(const std::string& hint) const {
  const size_t slash = hint.rfind('/');
  uint64_t incarnation = 0;
  if (slash == std::string::npos || !absl::SimpleAtoi(hint.substr(slash + 1), &incarnation)) return -1;
  const int worker = view_.Find(hint.substr(0, slash));
  return worker < 0 || IncarnationOf(worker) != incarnation ? -1 : worker;
}

int SessionLocator::OwnerOf(const std::string& tenant, const std::string& session_id) const {
  const uint64_t key = routing::SessionKey(tenant, session_id);
  const Placement* const known = placements_.Find(key);
  if (known != nullptr && view_.worker(known->worker).link == routing::LinkState::kUp &&
      IncarnationOf(known->worker) == known->incarnation) {
    return known->worker;
  }
  return routing::SessionOwner(view_, key);
}

uint64_t SessionLocator::IncarnationOf(int worker) const { return rpc::IncarnationNumber(view_.worker(worker).incarnation); }

}  // namespace berth::relay
