#pragma once

#include <string_view>

#include "gateway/relay/stream.h"
#include "gateway/routing/router.h"

namespace berth::relay {

// How a generation is to be routed. It views the stream's request.
routing::RouteRequest RouteRequestFor(const GenerationStream& stream);

// Names for metrics: "session", "prefix" or "least_loaded"; "affinity_hit", "spill", …
std::string_view PolicyName(const v1::GenerationSpec& spec);
std::string_view OutcomeName(const routing::RouteDecision& decision);
// Why a session's request goes elsewhere than where it was or would be: "scale", "overload", "drain", "slow" or "death"; null
// when it does not.
const char* MoveReason(const routing::ClusterView& view, const routing::RouteRequest& request,
                       const routing::RouteDecision& decision);

// UNAVAILABLE "NO_HEALTHY_WORKER", or NOT_FOUND when workers are there and none serves the model.
absl::Status NoWorkerError(const routing::ClusterView& view, const std::string& model);

// The worker was lost and nobody can go on; names the last message of the stream.
absl::Status WorkerLostError(uint64_t end_seq);

}  // namespace berth::relay
