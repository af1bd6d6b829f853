#include "gateway/relay/session_locator.h"

#include <memory>
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
  if (const Placement* const known = Known(request); known != nullptr) {
    KeepOrMove(stream, search, known->worker, clock_.Monotonic() - known->used);
    return false;
  }
  v1::HasSessionRequest session;
  session.set_tenant(stream.request().tenant);
  session.set_model(spec.model());
  session.set_session_id(spec.session_id());
  return Ask(session, request, HintedWorker(stream.request().worker_hint), search, answer);
}

void SessionLocator::Find(const v1::HasSessionRequest& session, std::function<void(int worker)> done) const {
  const auto request_for = [](const v1::HasSessionRequest& session) {
    return routing::RouteRequest{.key = routing::SessionKey(session.tenant(), session.session_id()), .model = session.model()};
  };
  const routing::RouteRequest request = request_for(session);
  if (const Placement* const known = Known(request); known != nullptr) return done(known->worker);
  const auto search = std::make_shared<SessionSearch>();
  const auto answer = [=, this](int worker, const absl::Status& status, const v1::HasSessionResponse& response) {
    if (!Compare(*search, worker, status, response)) return;
    const routing::RouteRequest request = request_for(session);
    const bool found = search->holder >= 0 && routing::CanHold(view_, search->holder, request);
    done(found ? search->holder : routing::SessionOwner(view_, request));
  };
  if (!Ask(session, request, /*hinted=*/-1, *search, answer)) done(routing::SessionOwner(view_, request));
}

const SessionLocator::Placement* SessionLocator::Known(const routing::RouteRequest& request) const {
  const Placement* const known = placements_.Find(*request.key);
  if (known == nullptr || !routing::CanHold(view_, known->worker, request)) return nullptr;
  return IncarnationOf(known->worker) == known->incarnation ? known : nullptr;
}

bool SessionLocator::Ask(const v1::HasSessionRequest& session, const routing::RouteRequest& request, int hinted,
                         SessionSearch& search, const Answer& answer) const {
  if (!lookup_) return false;
  const std::vector<int> holders = routing::PossibleHolders(view_, request, hinted, clock_.Now() - options_.session_ttl);
  search.lookups = static_cast<int>(holders.size());
  for (int worker : holders) {
    lookup_(worker, session,
            [answer, worker](const absl::Status& status, const auto& response) { answer(worker, status, response); });
  }
  return !holders.empty();
}

bool SessionLocator::Compare(SessionSearch& search, int worker, const absl::Status& status,
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
  return --search.lookups == 0;
}

bool SessionLocator::Heard(const GenerationStream& stream, SessionSearch& search, int worker, const absl::Status& status,
                           const v1::HasSessionResponse& response) {
  if (!Compare(search, worker, status, response)) return false;
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

uint64_t SessionLocator::IncarnationOf(int worker) const { return rpc::IncarnationNumber(view_.worker(worker).incarnation); }

}  // namespace berth::relay
