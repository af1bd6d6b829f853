#include "proto/rpc/http_listener.h"

#include <chrono>
#include <thread>
#include <utility>

#include "base/status.h"
#include "boost/asio/as_tuple.hpp"
#include "boost/asio/awaitable.hpp"
#include "boost/asio/co_spawn.hpp"
#include "boost/asio/detached.hpp"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/steady_timer.hpp"
#include "boost/asio/use_awaitable.hpp"
#include "boost/beast/core.hpp"
#include "boost/beast/http.hpp"
#include "proto/rpc/listen.h"

namespace berth::rpc {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;

constexpr int kMaxConnections = 64;
constexpr std::chrono::seconds kIdleTimeout{10};
constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

class HttpListener::Impl {
 public:
  explicit Impl(const HttpListenerOptions& options) : options_(options), acceptor_(context_), retry_(context_) {}

  ~Impl() {
    context_.stop();
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Start() {
    BERTH_RETURN_IF_ERROR(Listen(acceptor_, options_.host, options_.port));
    port_ = acceptor_.local_endpoint().port();
    asio::co_spawn(context_, Accept(), asio::detached);
    thread_ = std::thread([this] { context_.run(); });
    return absl::OkStatus();
  }

  int port() const { return port_; }

 private:
  asio::awaitable<void> Accept() {
    while (true) {
      auto [error, socket] = co_await acceptor_.async_accept(kAwait);
      if (error) {
        // Out of descriptors, most likely: another attempt at once would spin.
        retry_.expires_after(kAcceptRetry);
        co_await retry_.async_wait(kAwait);
      } else if (connections_ < kMaxConnections) {
        ++connections_;
        asio::co_spawn(context_, Serve(beast::tcp_stream(std::move(socket))), asio::detached);
      }
    }
  }

  asio::awaitable<void> Serve(beast::tcp_stream stream) {
    beast::flat_buffer buffer(16384);
    for (bool keep_alive = true; keep_alive;) {
      http::request<http::empty_body> request;
      stream.expires_after(kIdleTimeout);
      auto [read_error, read] = co_await http::async_read(stream, buffer, request, kAwait);
      if (read_error) break;
      http::response<http::string_body> response = Answer(request);
      keep_alive = response.keep_alive();
      auto [write_error, written] = co_await http::async_write(stream, response, kAwait);
      if (write_error) break;
    }
    --connections_;
  }

  http::response<http::string_body> Answer(const http::request<http::empty_body>& request) const {
    http::response<http::string_body> response(http::status::ok, request.version());
    response.set(http::field::content_type, "text/plain; version=0.0.4; charset=utf-8");
    response.keep_alive(request.keep_alive());
    if (request.method() != http::verb::get) {
      response.result(http::status::method_not_allowed);
    } else if (request.target() == "/metrics") {
      response.body() = options_.metrics();
    } else if (request.target() == "/live" || request.target() == "/ready") {
      const bool ok = request.target() == "/live" ? options_.live() : options_.ready();
      response.result(ok ? http::status::ok : http::status::service_unavailable);
      response.body() = ok ? "ok\n" : "no\n";
    } else {
      response.result(http::status::not_found);
    }
    response.prepare_payload();
    return response;
  }

  const HttpListenerOptions options_;
  asio::io_context context_{1};
  tcp::acceptor acceptor_;
  asio::steady_timer retry_;
  int port_ = 0;
  int connections_ = 0;
  std::thread thread_;
};

absl::StatusOr<std::unique_ptr<HttpListener>> HttpListener::Start(const HttpListenerOptions& options) {
  auto impl = std::make_unique<Impl>(options);
  if (absl::Status status = impl->Start(); !status.ok()) return status;
  return std::unique_ptr<HttpListener>(new HttpListener(std::move(impl)));
}

HttpListener::HttpListener(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpListener::~HttpListener() = default;
int HttpListener::port() const { return impl_->port(); }

}  // namespace berth::rpc
