#include "gateway/http/connection.h"

#include <algorithm>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "boost/asio/post.hpp"
#include "boost/asio/write.hpp"
#include "boost/beast/http/empty_body.hpp"
#include "boost/beast/http/read.hpp"
#include "boost/beast/http/write.hpp"
#include "gateway/http/error_body.h"
#include "gateway/http/rate_headers.h"
#include "gateway/routing/cluster_view.h"
#include "proto/rpc/status.h"

namespace berth::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace bhttp = boost::beast::http;

constexpr auto kIdleTimeout = std::chrono::seconds(75);
constexpr auto kBodyTimeout = std::chrono::seconds(60);
constexpr auto kWriteTimeout = std::chrono::seconds(60);
constexpr auto kHandshakeTimeout = std::chrono::seconds(10);
// For the peer's goodbye.
constexpr auto kCloseTimeout = std::chrono::seconds(2);
constexpr auto kDiscardTimeout = std::chrono::seconds(10);
constexpr size_t kMaxHeaderBytes = 64 << 10;
// Of a next request, while the answer to this one is made.
constexpr size_t kMaxEarlyBytes = 512;
// Of a body that was refused: a caller that sends it before it reads must get to the answer.
constexpr size_t kMaxDiscardBytes = 256 << 20;

std::string PathOf(beast::string_view target) { return std::string(target.substr(0, target.find('?'))); }

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
      on_gone_(std::move(on_gone)) {}

Connection::~Connection() { on_gone_(); }

void Connection::Start() {
  asio::post(executor_, [self = shared_from_this()] {
    boost::system::error_code ignored;
    self->stream_.tcp().socket().set_option(asio::ip::tcp::no_delay(true), ignored);
    self->Handshake();
  });
}

void Connection::Drain() {
  asio::post(executor_, [self = shared_from_this()] {
    self->draining_ = true;
    if (!self->busy_) self->CloseNow();
  });
}

void Connection::Close() {
  asio::post(executor_, [self = shared_from_this()] { self->CloseNow(); });
}

void Connection::CloseNow() {
  if (std::exchange(closed_, true)) return;
  if (generation_ != nullptr) generation_->Abandon();
  generation_.reset();
  boost::system::error_code ignored;
  stream_.tcp().socket().shutdown(asio::ip::tcp::socket::shutdown_both, ignored);
  stream_.tcp().close();
}

void Connection::Handshake() {
  if (stream_.tls() == nullptr) return ReadHeader();
  stream_.tcp().expires_after(kHandshakeTimeout);
  stream_.tls()->async_handshake(asio::ssl::stream_base::server, [self = shared_from_this()](const ErrorCode& error) {
    if (error) return self->CloseNow();
    self->ReadHeader();
  });
}

void Connection::ReadHeader() {
  if (closed_) return;
  busy_ = false;
  if (draining_) return CloseAfterAnswer();
  parser_.emplace();
  parser_->body_limit(context_.max_body_bytes);
  parser_->header_limit(kMaxHeaderBytes);
  stream_.tcp().expires_after(kIdleTimeout);
  bhttp::async_read_header(stream_, buffer_, *parser_,
                           [self = shared_from_this()](const ErrorCode& error, size_t) { self->OnHeader(error); });
}

void Connection::OnHeader(const ErrorCode& error) {
  if (closed_) return;
  busy_ = true;
  keep_alive_ = !error && parser_->get().keep_alive();
  if (error) return RejectUnreadable(error);
  if (!beast::iequals(parser_->get()[bhttp::field::expect], "100-continue")) return ReadBody();
  out_ = "HTTP/1.1 100 Continue\r\n\r\n";
  asio::async_write(stream_, asio::buffer(out_), [self = shared_from_this()](const ErrorCode& failed, size_t) {
    if (failed) return self->CloseNow();
    self->ReadBody();
  });
}

void Connection::ReadBody() {
  stream_.tcp().expires_after(kBodyTimeout);
  bhttp::async_read(stream_, buffer_, *parser_,
                    [self = shared_from_this()](const ErrorCode& error, size_t) { self->OnBody(error); });
}

void Connection::OnBody(const ErrorCode& error) {
  if (closed_) return;
  if (error) return RejectUnreadable(error);
  stream_.tcp().expires_never();
  Watch();
  Handle();
}

void Connection::RejectUnreadable(const ErrorCode& error) {
  if (!IsProtocolError(error)) return CloseNow();
  keep_alive_ = false;
  discard_rest_ = true;
  if (error == bhttp::error::body_limit) {
    return RespondHttpError(413, absl::StrCat("the body is larger than ", context_.max_body_bytes, " bytes"),
                            "request_too_large");
  }
  RespondHttpError(error == bhttp::error::header_limit ? 431 : 400,
                   absl::StrCat("not a request that can be read: ", error.message()), "bad_request");
}

// Reads on while the answer is made, to learn of a caller who goes away.
void Connection::Watch() {
  watching_ = true;
  answered_ = false;
  stream_.async_read_some(buffer_.prepare(kMaxEarlyBytes),
                          [self = shared_from_this()](const ErrorCode& error, size_t read) { self->OnWatched(error, read); });
}

void Connection::OnWatched(const ErrorCode& error, size_t read) {
  watching_ = false;
  buffer_.commit(read);
  if (closed_) return;
  if (answered_ && (!error || error == asio::error::operation_aborted)) return NextRequest();
  // What came early belongs to the next request; from then on nobody watches.
  if (error) CloseNow();
}

void Connection::Handle() {
  const auto& request = parser_->get();
  const std::string path = PathOf(request.target());
  const bool is_get = request.method() == bhttp::verb::get, is_post = request.method() == bhttp::verb::post;
  constexpr beast::string_view kModels = "/v1/models";
  if (path == "/health" && is_get) {
    return context_.ready() ? Respond(200, R"({"status":"healthy"})")
                            : RespondError(absl::UnavailableError("no worker is attached"));
  }
  if (const PageFile* file = FindPageFile(path); file != nullptr && is_get) return HandlePage(*file);
  absl::StatusOr<std::shared_ptr<const rpc::Tenant>> tenant =
      context_.authenticator.Authenticate(RequestHeader("Authorization"));
  if (!tenant.ok()) return RespondError(tenant.status());
  if (path == "/v1/chat/completions" && is_post)
    return HandleCompletion("/v1/chat/completions", *std::move(tenant), ParseChatCompletion(request.body()));
  if (path == "/v1/completions" && is_post)
    return HandleCompletion("/v1/completions", *std::move(tenant), ParseTextCompletion(request.body()));
  if (path == kModels && is_get) return HandleModels("");
  if (path.rfind("/v1/models/", 0) == 0 && is_get) return HandleModels(path.substr(kModels.size() + 1));
  const bool known = path == "/v1/chat/completions" || path == "/v1/completions" || path == "/health" ||
                     FindPageFile(path) != nullptr || path.rfind(kModels.data(), 0) == 0;
  if (known)
    return RespondHttpError(405, absl::StrCat("not allowed: ", std::string(request.method_string()), " ", path),
                            "method_not_allowed");
  RespondHttpError(404, absl::StrCat("there is nothing at ", path), "not_found");
}

void Connection::HandleModels(std::string name) {
  rpc::Shard& shard = context_.generation.shard;
  const relay::Relay& relay = context_.generation.relay;
  shard.Post([self = shared_from_this(), &relay, name = std::move(name)] {
    asio::post(self->executor_, [self, models = relay.view().Models(), name] {
      const int64_t created = 0;
      if (name.empty()) return self->Respond(200, FormatModels(models, created));
      for (const v1::Model& model : models) {
        if (model.name() == name) return self->Respond(200, FormatModel(model, created));
      }
      self->RespondHttpError(404, absl::StrCat("the model \"", name, "\" does not exist"), "model_not_found");
    });
  });
}

void Connection::HandlePage(const PageFile& file) {
  response_.emplace();
  response_->set(bhttp::field::etag, file.etag);
  response_->set(bhttp::field::cache_control, "no-cache");
  response_->set("Content-Security-Policy", kPagePolicy);
  response_->set("Referrer-Policy", "no-referrer");
  response_->set("X-Content-Type-Options", "nosniff");
  if (IsUnchanged(file, RequestHeader("If-None-Match"))) return Respond(304, "", file.content_type);
  Respond(200, std::string(file.body), file.content_type);
}

void Connection::HandleCompletion(const char* method, std::shared_ptr<const rpc::Tenant> tenant,
                                  absl::StatusOr<CompletionRequest> request) {
  if (!request.ok()) return RespondError(request.status());
  if (request->spec.session_id().empty()) request->spec.set_session_id(RequestHeader("X-Session-Id"));
  head_ = ResponseHead{.chat = request->chat,
                       .include_usage = request->include_usage,
                       .logprobs = request->spec.output().has_top_logprobs(),
                       .choice_count = std::max(request->spec.sampling().choice_count(), 1),
                       .prompt_count = 1 + static_cast<int>(request->more_prompts.size()),
                       .created = absl::ToUnixSeconds(context_.generation.clock.Now())};
  formatter_.reset();
  head_sent_ = false;
  generation_ = std::make_shared<Generation>(context_.generation, method, request->stream,
                                             [weak = weak_from_this(), executor = executor_](Generation::Batch batch) {
                                               asio::post(executor, [weak, batch = std::move(batch)]() mutable {
                                                 if (const auto self = weak.lock()) self->OnBatch(std::move(batch));
                                               });
                                             });
  if (request->stream) formatter_.emplace(*head_);
  const std::string& name = tenant->name;
  generation_->Start({.tenant = name,
                      .spec = std::move(request->spec),
                      .traceparent = RequestHeader("traceparent"),
                      .worker_hint = RequestHeader("X-Worker-Hint"),
                      .limits = std::move(tenant)},
                     std::move(request->more_prompts));
}

void Connection::OnBatch(Generation::Batch batch) {
  if (closed_ || generation_ == nullptr) return;
  if (batch.given_up) return CloseNow();
  if (!head_sent_) levels_ = batch.levels;
  const bool last = batch.end.has_value();
  if (last && !head_sent_ && batch.messages.empty()) {
    generation_.reset();
    if (!batch.end->ok()) return RespondError(*batch.end);
    if (batch.whole.has_value()) return Respond(200, FormatWhole(*head_, *batch.whole));
  }
  std::string text;
  for (const v1::StreamGenerateResponse& message : batch.messages) text += formatter_->Format(message);
  if (last) text += EventFormatter::End(*batch.end);
  if (text.empty() && head_sent_) return generation_->Taken();
  chunked_ = parser_->get().version() >= 11;
  std::string out;
  if (!std::exchange(head_sent_, true)) out = StreamHead(batch.messages.front());
  if (chunked_ && !text.empty()) {
    absl::StrAppendFormat(&out, "%x\r\n%s\r\n", text.size(), text);
  } else {
    out += text;
  }
  if (chunked_ && last) out += "0\r\n\r\n";
  WriteEvents(std::move(out), last);
}

std::string Connection::StreamHead(const v1::StreamGenerateResponse& first) {
  bhttp::response<bhttp::empty_body> head(bhttp::status::ok, parser_->get().version());
  head.set(bhttp::field::content_type, "text/event-stream; charset=utf-8");
  head.set(bhttp::field::cache_control, "no-cache");
  head.set("X-Request-Id", first.request_id());
  if (first.has_started()) {
    head.set("X-Worker-Hint", absl::StrCat(first.started().worker_id(), "/", first.started().worker_incarnation()));
  }
  for (const auto& [name, value] : RateHeaders(std::exchange(levels_, {}))) head.set(name, value);
  head.keep_alive(keep_alive_ && chunked_);
  if (chunked_) head.chunked(true);
  std::ostringstream text;
  text << head.base();
  return text.str();
}

void Connection::WriteEvents(std::string text, bool last) {
  out_ = std::move(text);
  stream_.tcp().expires_after(kWriteTimeout);
  asio::async_write(stream_, asio::buffer(out_), [self = shared_from_this(), last](const ErrorCode& error, size_t) {
    if (error) return self->CloseNow();
    if (self->closed_) return;
    self->stream_.tcp().expires_never();
    if (!last) return self->generation_->Taken();
    self->generation_.reset();
    self->AnswerDone(self->keep_alive_ && self->chunked_);
  });
}

void Connection::RespondError(const absl::Status& status) {
  const int retry_after = RetryAfterSeconds(status);
  response_.emplace();
  if (retry_after > 0) response_->set(bhttp::field::retry_after, absl::StrCat(retry_after));
  if (absl::IsUnauthenticated(status)) response_->set(bhttp::field::www_authenticate, "Bearer");
  Respond(HttpStatusOf(status), ErrorBody(status));
}

void Connection::RespondHttpError(int code, const std::string& message, const std::string& reason) {
  Respond(code, ErrorBody(code, message, reason));
}

void Connection::Respond(int code, std::string body, std::string_view content_type) {
  if (closed_) return;
  if (!response_.has_value()) response_.emplace();
  response_->version(parser_->get().version() == 10 ? 10 : 11);
  response_->result(code);
  response_->set(bhttp::field::content_type, content_type);
  for (const auto& [name, value] : RateHeaders(std::exchange(levels_, {}))) response_->set(name, value);
  response_->keep_alive(keep_alive_);
  response_->body() = std::move(body);
  response_->prepare_payload();
  stream_.tcp().expires_after(kWriteTimeout);
  bhttp::async_write(stream_, *response_,
                     [self = shared_from_this()](const ErrorCode& error, size_t) { self->OnResponded(error); });
}

void Connection::OnResponded(const ErrorCode& error) {
  response_.reset();
  if (error) return CloseNow();
  if (closed_) return;
  if (!discard_rest_) return AnswerDone(keep_alive_);
  ErrorCode ignored;
  stream_.tcp().socket().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  stream_.tcp().expires_after(kDiscardTimeout);
  Discard(kMaxDiscardBytes);
}

void Connection::Discard(size_t left) {
  buffer_.clear();
  stream_.async_read_some(buffer_.prepare(kMaxHeaderBytes),
                          [self = shared_from_this(), left](const ErrorCode& error, size_t read) {
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

void Connection::NextRequest() { return keep_alive_ ? ReadHeader() : CloseAfterAnswer(); }

// TLS has a goodbye of its own, without which the caller cannot tell the end from a cut.
void Connection::CloseAfterAnswer() {
  if (stream_.tls() == nullptr) return CloseNow();
  stream_.tcp().expires_after(kCloseTimeout);
  stream_.tls()->async_shutdown([self = shared_from_this()](const ErrorCode&) { self->CloseNow(); });
}

std::string Connection::RequestHeader(beast::string_view name) const { return std::string(parser_->get()[name]); }

}  // namespace berth::http
