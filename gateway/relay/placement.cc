#include "gateway/relay/placement.h"

#include "absl/strings/str_cat.h"
#include "gateway/routing/rendezvous.h"
#include "proto/rpc/status.h"

namespace berth::relay {

routing::RouteRequest RouteRequestFor(const GenerationStream& stream) {
  const v1::GenerationSpec& spec = stream.request().spec;
  routing::RouteRequest request{.may_spill = !IsFollowUp(spec),
                                .starts_session = spec.session().start(),
                                .model = spec.model(),
                                .fingerprint = stream.fingerprint()};
  if (spec.session_id().empty()) {
    request.key = routing::PrefixKey(spec.model(), stream.request().tenant, spec.prompt());
  } else {
    request.key = routing::SessionKey(stream.request().tenant, spec.session_id());
  }
  return request;
}

std::string_view PolicyName(const v1::GenerationSpec& spec) {
  if (!spec.session_id().empty()) return "session";
  return spec.prompt().has_chat() ? "prefix" : "least_loaded";
}

std::string_view OutcomeName(const routing::RouteDecision& decision) {
  if (decision.outcome == routing::RouteOutcome::kNoWorker) return "no_worker";
  switch (decision.affinity) {
    case v1::AFFINITY_HIT:
      return "affinity_hit";
    case v1::AFFINITY_SPILL:
      return "spill";
    case v1::AFFINITY_REBIND:
      return "rebind";
    default:
      return "affinity_new";
  }
}

const char* MoveReason(const routing::ClusterView& view, const routing::RouteRequest& request,
                       const routing::RouteDecision& decision) {
  if (decision.affinity == v1::AFFINITY_SPILL) return "overload";
  if (decision.affinity != v1::AFFINITY_REBIND) return nullptr;
  if (request.moved) return "scale";
  const routing::WorkerView& left = view.worker(request.held_by >= 0 ? request.held_by : view.Rank(*request.key).front());
  if (left.link != routing::LinkState::kUp) return "death";
  return left.load.state() == v1::WORKER_STATE_DRAINING ? "drain" : left.is_slow() ? "slow" : "death";
}

absl::Status NoWorkerError(const routing::ClusterView& view, const std::string& model) {
  if (view.UpCount() > 0 && !view.KnowsModel(model)) {
    return rpc::ErrorWithReason(absl::StatusCode::kNotFound, "MODEL_NOT_FOUND",
                                absl::StrCat("the model \"", model, "\" does not exist"));
  }
  return rpc::ErrorWithReason(absl::StatusCode::kUnavailable, "NO_HEALTHY_WORKER", "no worker is ready to serve the request");
}

absl::Status WorkerLostError(uint64_t end_seq) {
  return rpc::ErrorWithReason(absl::StatusCode::kUnavailable, "WORKER_LOST", "the worker was lost and no other can continue",
                              {{"last_seq", absl::StrCat(static_cast<int64_t>(end_seq) - 1)}});
}

}  // namespace berth::relay
