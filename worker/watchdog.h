#pragma once

#include <sys/un.h>

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/rpc/shard.h"

namespace berth::worker {

// Tells a supervisor how the process is, by systemd's protocol of lines to a datagram socket. WATCHDOG=1 is sent from the I/O
// thread again and again, so that a process that is frozen or whose I/O thread hangs falls silent. Thread: made and destroyed
// by the owner, while the shard does not run or after it has stopped.
class Watchdog {
 public:
  struct Options {
    std::string socket;  // NOTIFY_SOCKET's value: a path, or '@' and an abstract name
    absl::Duration period = absl::Milliseconds(500);
  };

  // INVALID_ARGUMENT when `socket` is no such address.
  static absl::StatusOr<std::unique_ptr<Watchdog>> Make(const Options& options, rpc::Shard& shard);
  ~Watchdog();

  // READY=1, and WATCHDOG=1 from now on until the shard stops. Thread: the shard's.
  void Start();
  // Says one more thing, e.g. "STOPPING=1". Any thread.
  void Say(std::string_view what);

 private:
  void Beat();
  Watchdog(absl::Duration period, rpc::Shard& shard, const sockaddr_un& address, socklen_t length, int descriptor)
      : period_(period), shard_(shard), address_(address), length_(length), descriptor_(descriptor) {}

  const absl::Duration period_;
  rpc::Shard& shard_;
  const sockaddr_un address_;
  const socklen_t length_;
  const int descriptor_;
};

}  // namespace berth::worker
