#pragma once

#include <string_view>

#include "absl/algorithm/container.h"
#include "worker/session/journal.h"

namespace berth::session {

// Whether `request` may take over a claim that `holder` opened for `request_id` (rule 6).
inline bool MayTakeOver(const ClaimRequest& request, std::string_view holder, std::string_view request_id) {
  const auto worker_of = [](std::string_view text) { return text.substr(0, text.find('/')); };
  return holder.empty() || request_id == request.request_id || worker_of(holder) == worker_of(request.holder) ||
         absl::c_linear_search(request.lost_holders, holder);
}

}  // namespace berth::session
