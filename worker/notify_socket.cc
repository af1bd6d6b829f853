#include "worker/notify_socket.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace berth::worker {

absl::StatusOr<std::unique_ptr<NotifySocket>> NotifySocket::Open(const std::string& name) {
  sockaddr_un address = {.sun_family = AF_UNIX};
  if (name.size() < 2 || (name[0] != '@' && name[0] != '/') || name.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(absl::StrCat("NOTIFY_SOCKET is \"", name, "\", want a path or an abstract name"));
  }
  memcpy(address.sun_path, name.data(), name.size());
  if (name[0] == '@') address.sun_path[0] = '\0';
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  const int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor < 0) return absl::InternalError(absl::StrCat("notify socket: ", strerror(errno)));
  return std::unique_ptr<NotifySocket>(new NotifySocket(address, length, descriptor));
}

NotifySocket::~NotifySocket() { close(descriptor_); }

void NotifySocket::Say(std::string_view what) const {
  sendto(descriptor_, what.data(), what.size(), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address_), length_);
}

void NotifySocket::SayLoaded(int percent) const {
  Say(absl::StrCat("STATUS=loading weights: ", percent, " %\nX_BERTH_LOADED_PERCENT=", percent));
}

}  // namespace berth::worker
