// Cancels by the id of a request or of a session, also of other gateways.

#include <utility>

#include "gateway/relay/relay_state.h"

namespace berth::relay {
void Relay::Cancel(const std::string& tenant, const v1::CancelRequest& request, absl::AnyInvocable<void(bool found)> done) {
  const Turn turn(*this);
  Stream* found = nullptr;
  if (request.request_id().empty()) {
    for (const auto& [id, stream] : streams_) {
      const GenerationRequest& running = stream->generation.request();
      if (running.tenant == tenant && running.spec.session_id() == request.session_id()) found = stream.get();
    }
  } else if (const auto it = by_request_.find(RequestKey(tenant, request.request_id())); it != by_request_.end()) {
    found = streams_.at(it->second).get();
  }
  if (found != nullptr && found->state != State::kEnded) {
    // A running request ends as its worker says, with what it generated; any other ends here.
    const bool running = found->state == State::kRunning;
    found->cancelled = running && links_[found->worker]->Cancel(CancelOf(*found, found->attempt));
    if (!found->cancelled) {
      if (running) LeaveWorker(*found, /*cancel=*/false);  // it never heard of the request
      EndStream(*found, CancelledError());
    }
    return done(true);
  }
  const uint64_t id = ++last_id_;
  v1::LinkCancel cancel;
  cancel.set_request_id(request.request_id());
  cancel.set_tenant(tenant);
  cancel.set_session_id(request.session_id());
  cancel.set_cancel_id(id);
  absl::flat_hash_set<int> asked;
  for (int i = 0; i < view_.size(); ++i) {
    if (links_[i]->Cancel(cancel)) asked.insert(i);
  }
  cancels_.Add(id, std::move(asked), std::move(done));
}

}  // namespace berth::relay
