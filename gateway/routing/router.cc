#include "gateway/routing/router.h"

#include <algorithm>

#include "gateway/routing/rendezvous.h"

namespace berth::routing {
namespace {

bool Serves(const WorkerView& worker, const RouteRequest& request) {
  const v1::Model* model = worker.FindModel(request.model);
  if (request.journal_domain.has_value() && worker.journal_domain != *request.journal_domain) return false;
  return model != nullptr && (request.fingerprint == 0 || model->fingerprint() == request.fingerprint);
}

bool HasRoom(const WorkerView& worker, const RouteRequest& request) {
  return worker.HasRoom() && !(request.suspect && worker.has_suspect);
}

// Only for want of others.
bool IsLastChoice(const ClusterView& view, int index, const RouteRequest& request, absl::Duration now) {
  return index == request.avoid || view.worker(index).circuit(now) == Circuit::kOpen;
}

// In the order of `order`.
std::vector<int> Candidates(const ClusterView& view, const RouteRequest& request, const std::vector<int>& order,
                            absl::Duration now) {
  std::vector<int> good, all;
  for (int index : order) {
    if (!view.CanTakeNew(index, now) || !Serves(view.worker(index), request)) continue;
    all.push_back(index);
    if (!IsLastChoice(view, index, request, now)) good.push_back(index);
  }
  return good.empty() ? all : good;
}

bool AnyMayComeBack(const ClusterView& view, const RouteRequest& request) {
  for (int index = 0; index < view.size(); ++index) {
    if (view.MayTakeNew(index) && Serves(view.worker(index), request)) return true;
  }
  return false;
}

double MeanRunning(const ClusterView& view, const std::vector<int>& candidates) {
  double total = 0;
  for (int index : candidates) total += view.worker(index).load.running();
  return candidates.empty() ? 0 : total / candidates.size();
}

// Reports trail by up to 100 ms; a burst between two of them shows only in this gateway's own count.
int Load(const WorkerView& worker) { return std::max(worker.load.running() + worker.load.waiting(), worker.open_streams); }

RouteDecision Placed(int worker, v1::Affinity affinity) {
  return {.outcome = RouteOutcome::kPlaced, .worker = worker, .affinity = affinity};
}

RouteDecision LeastLoaded(const ClusterView& view, const RouteRequest& request, const std::vector<int>& candidates) {
  int best = -1;
  for (int index : candidates) {
    if (!HasRoom(view.worker(index), request)) continue;
    if (best < 0 || Load(view.worker(index)) < Load(view.worker(best))) best = index;
  }
  if (best < 0) return {.outcome = RouteOutcome::kNoRoom};
  return Placed(best, v1::AFFINITY_NEW);
}

// `candidates` in rank order. `preferred` is the request's first discovered rank, whether it can take work or not.
RouteDecision Spilling(const ClusterView& view, const RouteRequest& request, const std::vector<int>& candidates,
                       int preferred) {
  const double mean = MeanRunning(view, candidates);
  const auto place = [&](int index) {
    if (index == preferred && request.moved) return Placed(index, v1::AFFINITY_REBIND);
    if (index == preferred) return Placed(index, request.starts_session ? v1::AFFINITY_NEW : v1::AFFINITY_HIT);
    return Placed(index, index == candidates.front() ? v1::AFFINITY_REBIND : v1::AFFINITY_SPILL);
  };
  for (int index : candidates) {
    if (HasRoom(view.worker(index), request) && !IsOverBound(view.worker(index).load, mean)) return place(index);
  }
  for (int index : candidates) {
    if (HasRoom(view.worker(index), request)) return place(index);
  }
  return {.outcome = RouteOutcome::kNoRoom};
}

// A follow-up turn stays with its session's owner. One that drains, was ejected or is to be avoided keeps it unless the next
// rank reads the same journal.
RouteDecision FollowUp(const ClusterView& view, const RouteRequest& request, const std::vector<int>& order,
                       absl::Duration now) {
  const auto place = [&](int index) -> RouteDecision {
    if (view.worker(index).link != LinkState::kUp || !HasRoom(view.worker(index), request)) {
      return {.outcome = RouteOutcome::kNoRoom};
    }
    return Placed(index, index == order.front() && !request.moved ? v1::AFFINITY_HIT : v1::AFFINITY_REBIND);
  };
  int leaving = -1;
  for (int index : order) {
    const WorkerView& worker = view.worker(index);
    if (worker.link == LinkState::kDown || !Serves(worker, request)) continue;
    const bool draining = worker.load.state() == v1::WORKER_STATE_DRAINING;
    if (worker.link == LinkState::kUp && worker.load.state() != v1::WORKER_STATE_READY && !draining) continue;
    if (draining || IsLastChoice(view, index, request, now)) {
      if (leaving < 0) leaving = index;
      continue;
    }
    const bool same_journal =
        leaving >= 0 && !worker.journal_domain.empty() && worker.journal_domain == view.worker(leaving).journal_domain;
    if (leaving >= 0 && !same_journal) break;
    // One that is silent or reconnecting is back or failed in a moment: moving the session now would only contest it.
    if (!view.CanTakeNew(index, now)) return {.outcome = RouteOutcome::kNoRoom};
    return place(index);
  }
  if (leaving < 0) return {};
  return place(leaving);
}

}  // namespace

bool IsOverBound(const v1::LoadReport& load, double mean_running) {
  return load.waiting() > 0 || load.running() > std::max(1.25 * mean_running, load.slots() / 2.0);
}

RouteDecision Route(const ClusterView& view, const RouteRequest& request, absl::Duration now) {
  std::vector<int> order = view.Rank(request.key.value_or(0));
  if (const auto held = std::find(order.begin(), order.end(), request.held_by); held != order.end()) {
    std::rotate(order.begin(), held, held + 1);
  }
  if (!request.may_spill) return FollowUp(view, request, order, now);
  const std::vector<int> candidates = Candidates(view, request, order, now);
  if (candidates.empty()) return {.outcome = AnyMayComeBack(view, request) ? RouteOutcome::kNoRoom : RouteOutcome::kNoWorker};
  const bool has_place = request.key.has_value() || request.held_by >= 0;
  return has_place ? Spilling(view, request, candidates, order.front()) : LeastLoaded(view, request, candidates);
}

bool CanHold(const ClusterView& view, int index, const RouteRequest& request) {
  return view.worker(index).discovered && view.worker(index).link == LinkState::kUp && Serves(view.worker(index), request);
}

int SessionOwner(const ClusterView& view, const RouteRequest& request) {
  const std::vector<int> order = view.Rank(*request.key);
  const auto owner = std::find_if(order.begin(), order.end(), [&](int index) { return CanHold(view, index, request); });
  return owner == order.end() ? -1 : *owner;
}

std::vector<int> PossibleHolders(const ClusterView& view, const RouteRequest& request, int hinted, absl::Time oldest) {
  constexpr size_t kRanks = 3;
  std::vector<int> ranks = view.Rank(*request.key);
  std::erase_if(ranks, [&](int index) { return !CanHold(view, index, request); });
  std::vector<int> holders;
  if (ranks.empty()) return holders;
  const v1::Incarnation& first = view.worker(ranks.front()).incarnation;
  const bool is_young = first.start_time_micros() > absl::ToUnixMicros(oldest);
  for (size_t i = 1; i < std::min(ranks.size(), kRanks); ++i) {
    const bool was_before = is_young && IsOlder(view.worker(ranks[i]).incarnation, first);
    if (was_before || ranks[i] == hinted) holders.push_back(ranks[i]);
  }
  const auto place = std::find(ranks.begin(), ranks.end(), hinted);
  if (place - ranks.begin() >= static_cast<int>(kRanks) && place != ranks.end()) holders.push_back(hinted);
  return holders;
}

int MoveTarget(const ClusterView& view, const RouteRequest& request, int holder, absl::Duration now) {
  for (int index : view.Rank(*request.key)) {
    if (!CanHold(view, index, request)) continue;
    const std::string& journal = view.worker(index).journal_domain;
    const bool has_history = request.may_spill || (!journal.empty() && journal == view.worker(holder).journal_domain);
    const bool is_free = view.CanTakeNew(index, now) && view.worker(index).circuit(now) != Circuit::kOpen;
    return index != holder && has_history && is_free ? index : -1;
  }
  return -1;
}

}  // namespace berth::routing
