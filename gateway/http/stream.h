#pragma once

#include <memory>
#include <optional>
#include <utility>

#include "boost/asio/ssl/stream.hpp"
#include "boost/beast/core/tcp_stream.hpp"
#include "gateway/http/tls_context.h"

namespace berth::http {

// A connection's bytes, in plaintext or through TLS: an AsyncReadStream and AsyncWriteStream. One read and one write may be
// under way at once. Thread: its strand.
class Stream {
 public:
  using executor_type = boost::beast::tcp_stream::executor_type;

  // `context` is null for plaintext.
  Stream(boost::asio::ip::tcp::socket socket, TlsContext::Snapshot context)
      : tcp_(std::move(socket)), context_(std::move(context)) {
    if (context_ != nullptr) tls_.emplace(tcp_, *context_);
  }

  executor_type get_executor() { return tcp_.get_executor(); }
  // Timeouts, and the socket.
  boost::beast::tcp_stream& tcp() { return tcp_; }
  // Null in plaintext.
  boost::asio::ssl::stream<boost::beast::tcp_stream&>* tls() { return tls_.has_value() ? &*tls_ : nullptr; }

  template <typename Buffers, typename Handler>
  auto async_read_some(const Buffers& buffers, Handler&& handler) {
    return tls_.has_value() ? tls_->async_read_some(buffers, std::forward<Handler>(handler))
                            : tcp_.async_read_some(buffers, std::forward<Handler>(handler));
  }
  template <typename Buffers, typename Handler>
  auto async_write_some(const Buffers& buffers, Handler&& handler) {
    return tls_.has_value() ? tls_->async_write_some(buffers, std::forward<Handler>(handler))
                            : tcp_.async_write_some(buffers, std::forward<Handler>(handler));
  }

 private:
  boost::beast::tcp_stream tcp_;
  const TlsContext::Snapshot context_;
  std::optional<boost::asio::ssl::stream<boost::beast::tcp_stream&>> tls_;
};

}  // namespace berth::http
