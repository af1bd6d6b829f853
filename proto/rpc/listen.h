#pragma once

#include <chrono>
#include <string>

#include "absl/status/status.h"
#include "boost/asio/ip/tcp.hpp"

namespace berth::rpc {

// How long a listener waits after it could not accept, for want of descriptors most likely.
inline constexpr auto kAcceptRetry = std::chrono::milliseconds(100);

// `host` is an address or "localhost". UNAVAILABLE names the address that cannot be listened on.
absl::Status Listen(boost::asio::ip::tcp::acceptor& acceptor, const std::string& host, int port);

}  // namespace berth::rpc
