#include "worker/watchdog.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace berth::worker {

absl::StatusOr<std::unique_ptr<Watchdog>> Watchdog::Make(const Options& options, rpc::Shard& shard) {
  sockaddr_un address = {.sun_family = AF_UNIX};
  const std::string& name = options.socket;
  if (name.size() < 2 || (name[0] != '@' && name[0] != '/') || name.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("NOTIFY_SOCKET is \"", name, "\", want a path or an abstract name"));
  }
  memcpy(address.sun_path, name.data(), name.size());
  if (name[0] == '@') address.sun_path[0] = '\0';
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  const int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor < 0) return absl::InternalError(absl::StrCat("watchdog socket: ", strerror(errno)));
  return std::unique_ptr<Watchdog>(new Watchdog(options.period, shard, address, length, descriptor));
}

Watchdog::~Watchdog() { close(descriptor_); }

void Watchdog::Start() {
  Say("READY=1");
  Beat();
}

void Watchdog::Beat() {
  Say("WATCHDOG=1");
  shard_.After(period_, [this] { Beat(); });
}

void Watchdog::Say(std::string_view what) {
  // A supervisor that does not read has as many of these as it needs; one that is gone needs none.
  sendto(descriptor_, what.data(), what.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address_), length_);
}

}  // namespace berth::worker
