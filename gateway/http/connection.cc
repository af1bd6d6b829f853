#include "gateway/http/connection.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "boost/asio/post.hpp"
#include "boost/asio/write.hpp"
#include "boost/beast/http/read.hpp"

namespace berth::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace bhttp = boost::beast::http;
using Timer = asio::steady_timer;

constexpr auto kIdleTimeout = std::chrono::seconds(75);
constexpr auto kHandshakeTimeout = std::chrono::seconds(10);
// For the peer's goodbye.
constexpr auto kCloseTimeout = std::chrono::seconds(2);
constexpr size_t kMaxHeaderBytes = 64 << 10;
// Of a next request, while the answer to this one is made.
constexpr size_t kMaxEarlyBytes = 512;

bool IsProtocolError(const boost::system::error_code& error) {
  return error.category() == bhttp::make_error_code(bhttp::error::bad_method).category() &&
         error != bhttp::error::end_of_stream && error != bhttp::error::partial_message;
}

}  // namespace

Connection::Connection(asio::ip::tcp::socket socket, TlsContext::Snapshot tls, const ConnectionContext& context,
                       std::function<void()> on_gone)
    : stream_(std::move(socket), std::move(tls)),
      executor_(stream_.get_executor()),
      context_(context),
      on_gone_(std::move(on_gone)),
      request_timer_(executor_),
      heartbeat_(executor_) {}

Connection::~Connection() { on_gone_(); }

void Connection::Start() {
  asio::post(executor_, [self = Self()] {
    boost::system::error_code ignored;
    self->stream_.tcp().socket().set_option(asio::ip::tcp::no_delay(true), ignored);
    self->Handshake();
  });
}

void Connection::Drain() {
  asio::post(executor_, [self = Self()] {
    self->draining_ = true;
    if (!self->busy_) self->CloseNow();
  });
}

void Connection::Close() {
  asio::post(executor_, [self = Self()] { self->CloseNow(); });
}

void Connection::CloseNow() {
  if (std::exchange(closed_, true)) return;
  if (generation_ != nullptr) generation_->Abandon();
  generation_.reset();
  if (on_caller_gone_) std::exchange(on_caller_gone_, nullptr)();
  request_timer_.cancel();
  heartbeat_.cancel();
  boost::system::error_code ignored;
  stream_.tcp().socket().shutdown(asio::ip::tcp::socket::shutdown_both, ignored);
  stream_.tcp().close();
  self_.reset();
}

void Connection::Handshake() {
  if (stream_.tls() == nullptr) return AwaitRequest();
  stream_.tcp().expires_after(kHandshakeTimeout);
  stream_.tls()->async_handshake(asio::ssl::stream_base::server, [self = Self()](const ErrorCode& error) {
    if (error) return self->CloseNow();
    self->AwaitRequest();
  });
}

void Connection::AwaitRequest() {
  if (closed_) return;
  busy_ = false;
  if (draining_) return CloseAfterAnswer();
  parser_.emplace();
  set_ignored_fields({});
  parser_->body_limit(context_.max_body_bytes);
  parser_->header_limit(kMaxHeaderBytes);
  if (buffer_.size() > 0) return ReadHeader();
  stream_.tcp().expires_after(kIdleTimeout);
  stream_.async_read_some(buffer_.prepare(kMaxEarlyBytes), [self = Self()](const ErrorCode& error, size_t read) {
    if (error || self->closed_) return self->CloseNow();
    self->buffer_.commit(read);
    self->ReadHeader();
  });
}

void Connection::ReadHeader() {
  LimitReading();
  bhttp::async_read_header(stream_, buffer_, *parser_,
                           [self = Self()](const ErrorCode& error, size_t) { self->OnHeader(error); });
}

// For header and body, which no byte renews. The stream's own timer closes the socket, should the cancellation come between two
// reads and stop neither.
void Connection::LimitReading() {
  const auto limit = absl::ToChronoNanoseconds(context_.request_timeout);
  stream_.tcp().expires_after(limit + kCloseTimeout);
  timed_out_ = false;
  request_timer_.expires_after(limit);
  request_timer_.async_wait([self = Self()](const ErrorCode&) {
    // It may have been on its way here when the request was complete.
    if (self->closed_ || self->request_timer_.expiry() > Timer::clock_type::now()) return;
    self->timed_out_ = true;
    self->stream_.tcp().cancel();
  });
}

void Connection::OnHeader(const ErrorCode& error) {
  if (closed_) return;
  busy_ = true;
  keep_alive_ = !error && parser_->get().keep_alive();
  const beast::string_view target = parser_->get().target();
  path_ = std::string(target.substr(0, target.find('?')));
  if (error) return RejectUnreadable(error);
  const uint64_t most = parser_->chunked() ? context_.max_body_bytes : 0;
  const bool large = parser_->content_length().value_or(most) > kMaxOpenBodyBytes;
  refusal_ = FindRefusal(large);
  if (large && refusal_.has_value()) {
    StopReading();
    return Answer(*std::move(refusal_));
  }
  if (!beast::iequals(parser_->get()[bhttp::field::expect], "100-continue")) return ReadBody();
  out_ = "HTTP/1.1 100 Continue\r\n\r\n";
  asio::async_write(stream_, asio::buffer(out_), [self = Self()](const ErrorCode& failed, size_t) {
    if (failed) return self->CloseNow();
    self->ReadBody();
  });
}

void Connection::ReadBody() {
  if (timed_out_) return RejectUnreadable({});
  bhttp::async_read(stream_, buffer_, *parser_, [self = Self()](const ErrorCode& error, size_t) { self->OnBody(error); });
}

void Connection::OnBody(const ErrorCode& error) {
  if (closed_) return;
  if (error) return RejectUnreadable(error);
  request_timer_.expires_at(Timer::time_point::max());
  stream_.tcp().expires_never();
  self_ = Self();
  Watch();
  Handle();
}

void Connection::RejectUnreadable(const ErrorCode& error) {
  if (!timed_out_ && !IsProtocolError(error)) return CloseNow();
  StopReading();
  endpoint_ = nullptr;
  if (timed_out_) {
    const std::string limit = absl::FormatDuration(context_.request_timeout);
    return Answer(HttpFailure(408, absl::StrCat("the request was not complete within ", limit), "request_timeout"));
  }
  if (error == bhttp::error::body_limit) return Answer(TooLarge("the body is", context_.max_body_bytes));
  if (error == bhttp::error::buffer_overflow) {
    return Answer(TooLarge("a chunk's extension or the trailer is", kMaxBufferBytes));
  }
  Answer(HttpFailure(error == bhttp::error::header_limit ? 431 : 400,
                     absl::StrCat("not a request that can be read: ", error.message()), "bad_request"));
}

// The request is answered before its end: the rest is dropped, and so is the connection.
void Connection::StopReading() {
  request_timer_.expires_at(Timer::time_point::max());
  keep_alive_ = false;
  discard_rest_ = true;
}

// Reads on while the answer is made, to learn of a caller who goes away.
void Connection::Watch() {
  // Requests enough wait in a row.
  if (buffer_.size() + kMaxEarlyBytes > kMaxBufferBytes) return;
  watching_ = true;
  answered_ = false;
  stream_.async_read_some(buffer_.prepare(kMaxEarlyBytes),
                          [self = Self()](const ErrorCode& error, size_t read) { self->OnWatched(error, read); });
}

void Connection::OnWatched(const ErrorCode& error, size_t read) {
  watching_ = false;
  buffer_.commit(read);
  if (closed_) return;
  if (answered_ && (!error || error == asio::error::operation_aborted)) return NextRequest();
  // What came early belongs to the next request; from then on nobody watches.
  if (error) CloseNow();
}

void Connection::Discard(size_t left) {
  buffer_.clear();
  stream_.async_read_some(buffer_.prepare(kMaxHeaderBytes), [self = Self(), left](const ErrorCode& error, size_t read) {
    if (error || read >= left) return self->CloseNow();
    self->Discard(left - read);
  });
}

void Connection::AnswerDone(bool keep_alive) {
  keep_alive_ = keep_alive;
  if (!watching_) return NextRequest();
  answered_ = true;
  stream_.tcp().cancel();
}

void Connection::NextRequest() {
  keep_alive_ ? AwaitRequest() : CloseAfterAnswer();
  self_.reset();
}

// TLS has a goodbye of its own, without which the caller cannot tell the end from a cut.
void Connection::CloseAfterAnswer() {
  if (stream_.tls() == nullptr) return CloseNow();
  stream_.tcp().expires_after(kCloseTimeout);
  stream_.tls()->async_shutdown([self = Self()](const ErrorCode&) { self->CloseNow(); });
}

}  // namespace berth::http
