#pragma once

#include <sys/un.h>

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace berth::worker {

// The way to a supervisor by systemd's protocol: datagrams of NAME=value lines. Thread-safe.
class NotifySocket {
 public:
  // `address`: NOTIFY_SOCKET's value, a path, or '@' and an abstract name. INVALID_ARGUMENT when it is no such address.
  static absl::StatusOr<std::unique_ptr<NotifySocket>> Open(const std::string& address);
  ~NotifySocket();

  // A supervisor that does not read has as many of these as it needs; one that is gone needs none.
  void Say(std::string_view what) const;
  // STATUS for people, and X_BERTH_LOADED_PERCENT for `berth serve`.
  void SayLoaded(int percent) const;

 private:
  NotifySocket(const sockaddr_un& address, socklen_t length, int descriptor)
      : address_(address), length_(length), descriptor_(descriptor) {}

  const sockaddr_un address_;
  const socklen_t length_;
  const int descriptor_;
};

}  // namespace berth::worker
