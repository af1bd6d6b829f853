#include "proto/rpc/acceptor.h"

#include <fcntl.h>

#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/steady_timer.hpp"
#include "proto/rpc/listen.h"

namespace berth::rpc {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

// As gRPC writes it.
std::string PeerOf(const tcp::endpoint& endpoint) {
  const asio::ip::address& address = endpoint.address();
  if (address.is_v4()) return absl::StrCat("ipv4:", address.to_string(), ":", endpoint.port());
  const asio::ip::address_v6 v6 = address.to_v6();
  if (v6.is_v4_mapped()) return PeerOf({asio::ip::make_address_v4(asio::ip::v4_mapped, v6), endpoint.port()});
  return absl::StrCat("ipv6:%5B", v6.to_string(), "%5D:", endpoint.port());
}

}  // namespace

class Acceptor::Impl {
 public:
  absl::Status Listen(const std::string& host, int port) {
    BERTH_RETURN_IF_ERROR(rpc::Listen(acceptor_, host, port));
    port_ = acceptor_.local_endpoint().port();
    return absl::OkStatus();
  }
  int port() const { return port_; }

  void Start(grpc::experimental::ExternalConnectionAcceptor& server, Opened opened) {
    server_ = &server;
    opened_ = std::move(opened);
    Accept();
    thread_ = std::thread([this] { context_.run(); });
  }

  void Stop() {
    context_.stop();
    if (thread_.joinable()) thread_.join();
    error_code ignored;
    acceptor_.close(ignored);
  }

 private:
  void Accept() {
    acceptor_.async_accept([this](const error_code& error, tcp::socket socket) {
      if (!error) {
        Open(std::move(socket));
        return Accept();
      }
      // Out of descriptors, most likely: they come back when connections end.
      retry_.expires_after(kAcceptRetry);
      retry_.async_wait([this](const error_code&) { Accept(); });
    });
  }

  void Open(tcp::socket socket) {
    error_code error;
    const tcp::endpoint peer = socket.remote_endpoint(error);
    if (!error) socket.set_option(tcp::no_delay(true), error);
    if (!error) socket.native_non_blocking(true, error);
    if (error) return;  // gone already
    fcntl(socket.native_handle(), F_SETFD, FD_CLOEXEC);
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
    parameters.listener_fd = acceptor_.native_handle();
    parameters.fd = socket.release(error);
    opened_(PeerOf(peer), parameters.fd);
    server_->HandleNewConnection(&parameters);
  }

  asio::io_context context_{1};
  tcp::acceptor acceptor_{context_};
  int port_ = 0;
  asio::steady_timer retry_{context_};
  grpc::experimental::ExternalConnectionAcceptor* server_ = nullptr;
  Opened opened_;
  std::thread thread_;
};

absl::StatusOr<std::unique_ptr<Acceptor>> Acceptor::Listen(const std::string& host, int port) {
  auto impl = std::make_unique<Impl>();
  BERTH_RETURN_IF_ERROR(impl->Listen(host, port));
  return std::unique_ptr<Acceptor>(new Acceptor(std::move(impl)));
}

Acceptor::Acceptor(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Acceptor::~Acceptor() { Stop(); }
int Acceptor::port() const { return impl_->port(); }
void Acceptor::Start(grpc::experimental::ExternalConnectionAcceptor& server, Opened opened) {
  impl_->Start(server, std::move(opened));
}
void Acceptor::Stop() { impl_->Stop(); }

}  // namespace berth::rpc
