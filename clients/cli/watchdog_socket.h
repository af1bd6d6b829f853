#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace berth::cli {

// How long a watched program may be silent.
inline constexpr absl::Duration kWatchdogPatience = absl::Seconds(2);

// The supervisor's end of systemd's watchdog protocol: a datagram socket to which the program sends "WATCHDOG=1" while it is
// well, and before that "X_BERTH_LOADED_PERCENT=…" while it loads a model. Thread: the owner's.
class WatchdogSocket {
 public:
  // INTERNAL when the system refuses.
  static absl::StatusOr<std::unique_ptr<WatchdogSocket>> Open();
  ~WatchdogSocket();

  int descriptor() const { return descriptor_; }
  // NOTIFY_SOCKET and WATCHDOG_USEC, for the program.
  std::vector<std::pair<std::string, std::string>> Environment() const;
  struct Heard {
    bool well = false;
    std::optional<int> loaded_percent;
  };
  // What the program said in all datagrams that have come. Does not wait.
  Heard Take();

 private:
  WatchdogSocket(int descriptor, std::string address) : descriptor_(descriptor), address_(std::move(address)) {}

  const int descriptor_;
  const std::string address_;  // '@' for the abstract namespace, then the name
};

}  // namespace berth::cli
