#pragma once

#include <string>

#include "absl/status/status.h"
#include "boost/asio/ip/tcp.hpp"

namespace berth::rpc {

// `host` is an address or "localhost". UNAVAILABLE names the address that cannot be listened on.
absl::Status Listen(boost::asio::ip::tcp::acceptor& acceptor, const std::string& host, int port);

}  // namespace berth::rpc
