#include "clients/cli/watchdog_socket.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace berth::cli {

absl::StatusOr<std::unique_ptr<WatchdogSocket>> WatchdogSocket::Open() {
  const int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (descriptor < 0) return absl::InternalError(absl::StrCat("watchdog socket: ", strerror(errno)));
  // Without a path the kernel draws a free name in the abstract namespace: nothing to clean up, nothing to collide with.
  sockaddr_un address = {.sun_family = AF_UNIX};
  socklen_t length = offsetof(sockaddr_un, sun_path);
  if (bind(descriptor, reinterpret_cast<sockaddr*>(&address), length) != 0) {
    const std::string message = absl::StrCat("watchdog socket: ", strerror(errno));
    close(descriptor);
    return absl::InternalError(message);
  }
  length = sizeof(address);
  getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &length);
  std::string name(address.sun_path, length - offsetof(sockaddr_un, sun_path));
  name[0] = '@';
  return std::unique_ptr<WatchdogSocket>(new WatchdogSocket(descriptor, std::move(name)));
}

WatchdogSocket::~WatchdogSocket() { close(descriptor_); }

std::vector<std::pair<std::string, std::string>> WatchdogSocket::Environment() const {
  return {{"NOTIFY_SOCKET", address_}, {"WATCHDOG_USEC", absl::StrCat(absl::ToInt64Microseconds(kWatchdogPatience))}};
}

WatchdogSocket::Heard WatchdogSocket::Take() {
  constexpr absl::string_view kLoaded = "X_BERTH_LOADED_PERCENT=";
  Heard heard;
  char buffer[256];
  while (true) {
    const ssize_t count = recv(descriptor_, buffer, sizeof(buffer), 0);
    if (count < 0) return heard;
    for (absl::string_view line : absl::StrSplit(absl::string_view(buffer, count), '\n')) {
      heard.well = heard.well || line == "WATCHDOG=1";
      int percent = 0;
      if (!absl::ConsumePrefix(&line, kLoaded) || !absl::SimpleAtoi(line, &percent)) continue;
      heard.loaded_percent = std::clamp(percent, 0, 100);
    }
  }
}

}  // namespace berth::cli
