#include "absl/strings/str_cat.h"
#include "proto/rpc/status.h"
#include "worker/service/link.h"

namespace berth::service {

void LinkHub::Accept(std::shared_ptr<Link::Call> call) {
  const Link::Parts parts{.hub = *this, .core = core_, .status = status_, .metrics = metrics_, .clock = clock_};
  std::make_shared<Link>(options_, parts, std::move(call))->Listen();
}

void LinkHub::OnStep(uint64_t step, absl::Duration step_time) {
  for (const auto& [id, link] : links_) link->OnStep(step, step_time);
}

void LinkHub::CloseAll(const absl::Status& status) {
  std::vector<std::shared_ptr<Link>> links;
  for (const auto& [id, link] : links_) links.push_back(link);
  for (const std::shared_ptr<Link>& link : links) link->Close(status);
}

absl::Status LinkHub::Register(const std::shared_ptr<Link>& link) {
  const auto found = links_.find(link->gateway_id());
  if (found != links_.end() && found->second->epoch() >= link->epoch()) {
    return rpc::ErrorWithReason(absl::StatusCode::kAborted, "STALE_EPOCH",
                                absl::StrCat("epoch ", link->epoch(), ", the gateway's link has ", found->second->epoch()));
  }
  if (found != links_.end()) {
    const std::shared_ptr<Link> old = found->second;
    old->Close(rpc::ErrorWithReason(absl::StatusCode::kAborted, "LINK_REPLACED", "the gateway has attached again"));
  }
  links_[link->gateway_id()] = link;
  metrics_.SetLinks(links());
  return absl::OkStatus();
}

void LinkHub::Unregister(Link& link) {
  const auto found = links_.find(link.gateway_id());
  if (found != links_.end() && found->second.get() == &link) links_.erase(found);
  metrics_.SetLinks(links());
  if (links_.empty()) status_.OnUnlinked();
}

}  // namespace berth::service
