#include "proto/rpc/listen.h"

#include "absl/strings/str_cat.h"

namespace berth::rpc {

using boost::asio::ip::tcp;

absl::Status Listen(tcp::acceptor& acceptor, const std::string& host, int port) {
  boost::system::error_code error;
  const auto address = boost::asio::ip::make_address(host == "localhost" ? "127.0.0.1" : host, error);
  if (!error) acceptor.open(address.is_v6() ? tcp::v6() : tcp::v4(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind({address, static_cast<uint16_t>(port)}, error);
  if (!error) acceptor.listen(tcp::acceptor::max_listen_connections, error);
  if (!error) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("cannot listen on ", host, ":", port, ": ", error.message()));
}

}  // namespace berth::rpc
