#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "gateway/routing/cluster_view.h"
#include "proto/berth/v1/generation.pb.h"

namespace berth::routing {

struct RouteRequest {
  // SessionKey or PrefixKey; absent: least loaded.
  std::optional<uint64_t> key;
  // False for the follow-up turns of an interactive session: their history is at one worker.
  bool may_spill = true;
  // An interactive turn that opens its session.
  bool starts_session = false;
  std::string_view model;
  // Only models of this fingerprint; 0: any.
  uint64_t fingerprint = 0;
  // Only workers that read this journal.
  std::optional<std::string> journal_domain;
  // The worker that holds the session, or runs the request, and is to keep it: ranks first. -1: not known.
  int held_by = -1;
  // The session is moved to its first rank from another.
  bool moved = false;
  // Has just failed the request: taken only when there is no other. -1: none.
  int avoid = -1;
  // May have killed a worker: at most one such request is tried at a worker at a time.
  bool suspect = false;
};

enum class RouteOutcome {
  // `worker` takes the request now.
  kPlaced,
  // Workers are there, without room: ask again when a stream ends or a report comes.
  kNoRoom,
  // No worker can serve the request.
  kNoWorker,
};

struct RouteDecision {
  RouteOutcome outcome = RouteOutcome::kNoWorker;
  int worker = -1;
  v1::Affinity affinity = v1::AFFINITY_UNSPECIFIED;
};

// Chooses a worker. Pure: equal views give equal answers, so gateways need not talk to each other.
//
// The rank order is rendezvous over all discovered workers; those that cannot take new work are skipped, and ejected ones and
// the one to avoid unless there are no others. A worker beyond its bound (IsOverBound) is passed over for requests that may
// spill, unless all are. Without a key, and with nobody who is to keep the request, the least loaded worker is taken.
RouteDecision Route(const ClusterView& view, const RouteRequest& request, absl::Duration now);

// Attached, and serves what is asked for.
bool CanHold(const ClusterView& view, int index, const RouteRequest& request);

// The worker that owns a session of which nothing else is known: the first of the rank order that can hold it, also while it
// drains; -1 when none can.
int SessionOwner(const ClusterView& view, const RouteRequest& request);

// Workers to ask for a session that this gateway has not seen: of ranks 2 and 3 those that started before the first rank did,
// but for a first rank that started before `oldest`, when the session could not yet live. `hinted`, if not -1, is asked too.
std::vector<int> PossibleHolders(const ClusterView& view, const RouteRequest& request, int hinted, absl::Time oldest);

// Whether the session may go from its holder to its first rank; that one, or -1.
int MoveTarget(const ClusterView& view, const RouteRequest& request, int holder, absl::Duration now);

// It reports waiting requests, or runs more than max(1.25 × mean of the peers, half its slots).
bool IsOverBound(const v1::LoadReport& load, double mean_running);

}  // namespace berth::routing
