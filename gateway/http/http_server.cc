#include "gateway/http/http_server.h"

#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/post.hpp"
#include "boost/asio/steady_timer.hpp"
#include "boost/asio/strand.hpp"
#include "proto/rpc/listen.h"

namespace berth::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

// The open connections, also those that outlive the server's loop for a moment. Thread-safe.
class OpenConnections {
 public:
  uint64_t Add() {
    base::MutexLock lock(mutex_);
    ++open_;
    return ++last_id_;
  }
  void Set(uint64_t id, std::weak_ptr<Connection> connection) {
    base::MutexLock lock(mutex_);
    connections_[id] = std::move(connection);
  }
  // Whether there is room again after the table was full.
  bool Remove(uint64_t id, int limit) {
    base::MutexLock lock(mutex_);
    connections_.erase(id);
    changed_.NotifyAll();
    return --open_ == limit - 1;
  }
  int size() const {
    base::MutexLock lock(mutex_);
    return open_;
  }
  std::vector<std::shared_ptr<Connection>> All() const {
    base::MutexLock lock(mutex_);
    std::vector<std::shared_ptr<Connection>> all;
    for (const auto& [id, weak] : connections_) {
      if (auto connection = weak.lock()) all.push_back(std::move(connection));
    }
    return all;
  }
  bool WaitUntilEmpty(absl::Duration timeout) {
    const absl::Time deadline = absl::Now() + timeout;
    base::MutexLock lock(mutex_);
    while (open_ > 0) {
      const absl::Duration left = deadline - absl::Now();
      if (left <= absl::ZeroDuration()) return false;
      changed_.WaitFor(mutex_, left);
    }
    return true;
  }

 private:
  mutable base::Mutex mutex_;
  base::CondVar changed_;
  absl::flat_hash_map<uint64_t, std::weak_ptr<Connection>> connections_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  int open_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

class HttpServer::Impl {
 public:
  explicit Impl(const HttpServerOptions& options)
      : options_(options),
        work_(asio::make_work_guard(io_)),
        accept_strand_(asio::make_strand(io_)),
        acceptor_(accept_strand_),
        retry_(accept_strand_) {}

  ~Impl() {
    Drain();
    for (const auto& connection : open_.All()) connection->Close();
    open_.WaitUntilEmpty(absl::Seconds(5));
    work_.reset();
    io_.stop();
    for (std::thread& thread : threads_) thread.join();
    // Requests that connections gave up still name this server's executors until the shard has seen it.
    base::Notification seen;
    options_.connection.generation.shard.Post([&seen] { seen.Notify(); });
    seen.Wait();
  }

  absl::Status Listen() {
    BERTH_RETURN_IF_ERROR(rpc::Listen(acceptor_, options_.host, options_.port));
    port_ = acceptor_.local_endpoint().port();
    asio::post(accept_strand_, [this] { Accept(); });
    for (int i = 0; i < options_.threads; ++i) threads_.emplace_back([this] { io_.run(); });
    return absl::OkStatus();
  }

  void Drain() {
    asio::post(accept_strand_, [this] {
      draining_ = true;
      boost::system::error_code ignored;
      acceptor_.close(ignored);
      retry_.cancel();
    });
    for (const auto& connection : open_.All()) connection->Drain();
  }

  bool WaitUntilIdle(absl::Duration timeout) { return open_.WaitUntilEmpty(timeout); }
  int port() const { return port_; }

 private:
  // On the accept strand.
  void Accept() {
    if (draining_ || accepting_ || open_.size() >= options_.max_connections) return;
    accepting_ = true;
    acceptor_.async_accept(asio::make_strand(io_), [this](const boost::system::error_code& error, tcp::socket socket) {
      accepting_ = false;
      if (!error) Open(std::move(socket));
      if (!error) return Accept();
      // Out of descriptors, most likely: they come back when connections end.
      retry_.expires_after(rpc::kAcceptRetry);
      retry_.async_wait([this](const boost::system::error_code& cancelled) {
        if (!cancelled) Accept();
      });
    });
  }

  void Open(tcp::socket socket) {
    const uint64_t id = open_.Add();
    TlsContext::Snapshot tls = options_.tls == nullptr ? nullptr : options_.tls->current();
    auto connection = std::make_shared<Connection>(std::move(socket), std::move(tls), options_.connection, [this, id] {
      if (open_.Remove(id, options_.max_connections)) asio::post(accept_strand_, [this] { Accept(); });
    });
    open_.Set(id, connection);
    connection->Start();
    if (draining_) connection->Drain();
  }

  const HttpServerOptions options_;
  OpenConnections open_;
  asio::io_context io_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  asio::strand<asio::io_context::executor_type> accept_strand_;
  tcp::acceptor acceptor_;
  asio::steady_timer retry_;
  bool draining_ = false, accepting_ = false;
  int port_ = 0;
  std::vector<std::thread> threads_;
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpServerOptions& options) {
  auto impl = std::make_unique<Impl>(options);
  if (absl::Status status = impl->Listen(); !status.ok()) return status;
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() = default;
int HttpServer::port() const { return impl_->port(); }
void HttpServer::Drain() { impl_->Drain(); }
bool HttpServer::WaitUntilIdle(absl::Duration timeout) { return impl_->WaitUntilIdle(timeout); }

}  // namespace berth::http
