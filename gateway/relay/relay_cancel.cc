#include <algorithm>
#include <utility>

#include "gateway/relay/relay_state.h"

namespace berth::relay {
namespace {

constexpr absl::Duration kCancelAnswerTimeout = absl::Seconds(2);

}  // namespace

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
  v1::LinkCancel cancel;
  cancel.set_request_id(request.request_id());
  cancel.set_tenant(tenant);
  if (found != nullptr && found->state != State::kEnded) {
    cancel.set_stream_id(found->attempt);
    // A running request ends as its worker says, with what it generated; any other ends here.
    if (found->state != State::kRunning || !links_[found->worker]->Cancel(std::move(cancel))) {
      EndStream(*found, absl::CancelledError("the request was cancelled"));
    }
    return done(true);
  }
  auto pending = std::make_unique<PendingCancel>();
  pending->request_id = request.request_id();
  for (int i = 0; i < view_.size() && !request.request_id().empty(); ++i) {
    if (links_[i]->Cancel(cancel)) pending->workers.push_back(i);
  }
  if (pending->workers.empty()) return done(false);
  pending->done = std::move(done);
  pending->timer = timers_.After(kCancelAnswerTimeout, [this, raw = pending.get()] {
    raw->timer.reset();
    FinishCancel(*raw, false);
  });
  cancels_.push_back(std::move(pending));
}

void Relay::HandleCancelAnswer(int worker, const v1::CancelAnswer& answer) {
  for (const auto& cancel : cancels_) {
    if (cancel->request_id != answer.request_id()) continue;
    const auto asked = std::find(cancel->workers.begin(), cancel->workers.end(), worker);
    if (asked == cancel->workers.end()) continue;
    cancel->workers.erase(asked);
    if (answer.found() || cancel->workers.empty()) FinishCancel(*cancel, answer.found());
    return;
  }
}

void Relay::FinishCancel(PendingCancel& cancel, bool found) {
  StopTimer(cancel.timer);
  const auto it = std::find_if(cancels_.begin(), cancels_.end(), [&](const auto& entry) { return entry.get() == &cancel; });
  const std::unique_ptr<PendingCancel> owned = std::move(*it);
  cancels_.erase(it);
  owned->done(found);
}

}  // namespace berth::relay
