#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/rpc/shard.h"
#include "worker/notify_socket.h"

namespace berth::worker {

// Tells a supervisor how the process is. WATCHDOG=1 is sent from the I/O
// thread again and again, so that a process that is frozen or whose I/O thread hangs falls silent. Thread: made and destroyed
// by the owner, while the shard does not run or after it has stopped.
class Watchdog {
 public:
  struct Options {
    std::string socket;  // as NotifySocket takes it
    absl::Duration period = absl::Milliseconds(500);
  };

  // Errors are NotifySocket's.
  static absl::StatusOr<std::unique_ptr<Watchdog>> Make(const Options& options, rpc::Shard& shard);

  // READY=1, and WATCHDOG=1 from now on until the shard stops. Thread: the shard's.
  void Start();
  // Says one more thing, e.g. "STOPPING=1". Any thread.
  void Say(std::string_view what) { socket_->Say(what); }

 private:
  void Beat();
  Watchdog(absl::Duration period, rpc::Shard& shard, std::unique_ptr<NotifySocket> socket)
      : period_(period), shard_(shard), socket_(std::move(socket)) {}

  const absl::Duration period_;
  rpc::Shard& shard_;
  const std::unique_ptr<NotifySocket> socket_;
};

}  // namespace berth::worker
