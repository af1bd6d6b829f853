#include "worker/watchdog.h"

#include "base/status.h"

namespace berth::worker {

absl::StatusOr<std::unique_ptr<Watchdog>> Watchdog::Make(const Options& options, rpc::Shard& shard) {
  BERTH_ASSIGN_OR_RETURN(std::unique_ptr<NotifySocket> socket, NotifySocket::Open(options.socket));
  return std::unique_ptr<Watchdog>(new Watchdog(options.period, shard, std::move(socket)));
}

void Watchdog::Start() {
  Say("READY=1");
  Beat();
}

void Watchdog::Beat() {
  Say("WATCHDOG=1");
  shard_.After(period_, [this] { Beat(); });
}

}  // namespace berth::worker
