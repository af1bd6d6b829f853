// Connection's answers: the endpoint's whole ones, and the streams of generations.

#include <algorithm>
#include <sstream>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/utf8.h"
#include "boost/asio/post.hpp"
#include "boost/asio/write.hpp"
#include "boost/beast/http/empty_body.hpp"
#include "boost/beast/http/write.hpp"
#include "gateway/http/connection.h"
#include "gateway/http/rate_headers.h"
#include "proto/rpc/limits.h"
#include "proto/rpc/status.h"

namespace berth::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace bhttp = boost::beast::http;

constexpr auto kWriteTimeout = std::chrono::seconds(60);
constexpr auto kDiscardTimeout = std::chrono::seconds(10);
// Of a body that was refused: a caller that sends it before it reads must get to the answer.
constexpr size_t kMaxDiscardBytes = 256 << 20;
constexpr char kPreflightSeconds[] = "3600";

constexpr char kRequestId[] = "X-Request-Id", kWorkerHint[] = "X-Worker-Hint", kSessionId[] = "X-Session-Id";

std::string WorkerHint(const v1::Started& started) {
  return absl::StrCat(started.worker_id(), "/", started.worker_incarnation());
}

}  // namespace

// Why the request is not handled, as far as its header tells. `large`: its body may be.
std::optional<HttpAnswer> Connection::FindRefusal(bool large) {
  const auto& request = parser_->get();
  const std::string method(request.method_string());
  const bool preflight = request.method() == bhttp::verb::options;
  const std::string wanted = request.method() == bhttp::verb::head ? "GET" : method;
  endpoint_ = FindEndpoint(wanted, path_);
  if (endpoint_ == nullptr) return HttpFailure(404, absl::StrCat("there is nothing at ", path_), "not_found");
  if (!preflight && wanted != endpoint_->method) {
    return HttpFailure(405, absl::StrCat("not allowed: ", method, " ", path_), "method_not_allowed");
  }
  if (preflight || endpoint_->open) {
    if (large) return TooLarge("the body is", kMaxOpenBodyBytes);
    return std::nullopt;
  }
  std::string authorization = RequestHeader("Authorization");
  // As Anthropic's clients say it.
  if (authorization.empty() && request.count("X-Api-Key") > 0) authorization = "Bearer " + RequestHeader("X-Api-Key");
  absl::StatusOr<std::shared_ptr<const rpc::Tenant>> tenant = context_.authenticator.Authenticate(authorization);
  if (!tenant.ok()) return Failure(tenant.status());
  tenant_ = *std::move(tenant);
  return std::nullopt;
}

void Connection::Handle() {
  if (refusal_.has_value()) return Answer(*std::move(refusal_));
  if (parser_->get().method() == bhttp::verb::options) return HandlePreflight();
  endpoint_->handle(*this);
}

// A browser asks whether a page may call.
void Connection::HandlePreflight() {
  HttpAnswer answer{.code = 204};
  answer.headers = {{"Access-Control-Allow-Methods", AllowedMethods()}, {"Access-Control-Max-Age", kPreflightSeconds}};
  if (const std::string headers = RequestHeader("Access-Control-Request-Headers"); !headers.empty()) {
    answer.headers.emplace_back("Access-Control-Allow-Headers", headers);
  }
  Answer(std::move(answer));
}

void Connection::Post(std::function<void()> task) {
  asio::post(executor_, [self = Self(), task = std::move(task)] {
    if (!self->closed_) task();
  });
}

void Connection::Fail(const absl::Status& status) { Answer(Failure(status)); }

HttpAnswer Connection::Failure(const absl::Status& status) const {
  const bool anthropic = ErrorStyleAt(path_) == ErrorStyle::kAnthropic;
  HttpAnswer answer{.code = HttpStatusOf(status), .body = anthropic ? AnthropicErrorBody(status) : ErrorBody(status, path_)};
  const int retry_after = RetryAfterSeconds(status);
  if (retry_after > 0) answer.headers.emplace_back("Retry-After", absl::StrCat(retry_after));
  if (absl::IsUnauthenticated(status)) answer.headers.emplace_back("WWW-Authenticate", "Bearer");
  return answer;
}

HttpAnswer Connection::HttpFailure(int code, const std::string& message, const std::string& reason) const {
  const bool anthropic = ErrorStyleAt(path_) == ErrorStyle::kAnthropic;
  HttpAnswer answer{.code = code, .body = anthropic ? AnthropicErrorBody(code, message) : ErrorBody(code, message, reason)};
  if (code == 405) answer.headers.emplace_back("Allow", AllowedMethods());
  return answer;
}

HttpAnswer Connection::TooLarge(const std::string& what, size_t most) const {
  return HttpFailure(413, absl::StrCat(what, " larger than ", most, " bytes"), "request_too_large");
}

std::string Connection::AllowedMethods() const {
  const std::string method = endpoint_->method;
  return absl::StrCat(method, method == "GET" ? ", HEAD" : "", ", OPTIONS");
}

void Connection::Answer(HttpAnswer answer) {
  if (closed_) return;
  on_caller_gone_ = nullptr;
  response_.emplace();
  response_->version(parser_->get().version() == 10 ? 10 : 11);
  response_->result(answer.code);
  if (answer.code != 204) response_->set(bhttp::field::content_type, answer.content_type);
  for (const auto& [name, value] : answer.headers) response_->set(name, value);
  SetCommonHeaders(*response_);
  response_->keep_alive(keep_alive_);
  response_->body() = std::move(answer.body);
  response_->prepare_payload();
  // Only its length is told.
  if (parser_->get().method() == bhttp::verb::head) response_->body().clear();
  stream_.tcp().expires_after(kWriteTimeout);
  bhttp::async_write(stream_, *response_, [self = Self()](const ErrorCode& error, size_t) { self->OnAnswered(error); });
}

void Connection::OnAnswered(const ErrorCode& error) {
  response_.reset();
  call_.reset();
  if (error) return CloseNow();
  if (closed_) return;
  if (!discard_rest_) return AnswerDone(keep_alive_);
  ErrorCode ignored;
  stream_.tcp().socket().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  stream_.tcp().expires_after(kDiscardTimeout);
  Discard(kMaxDiscardBytes);
}

void Connection::SetCommonHeaders(Headers& headers) {
  for (const auto& [name, value] : RateHeaders(std::exchange(levels_, {}))) headers.set(name, value);
  if (!ignored_fields().empty()) {
    headers.set("Warning", absl::StrCat("299 berth \"ignored fields: ", absl::StrJoin(ignored_fields(), ", "), "\""));
  }
  const auto& allowed = context_.allowed_origins;
  const std::string origin = RequestHeader("Origin");
  const bool all = std::find(allowed.begin(), allowed.end(), "*") != allowed.end();
  if (origin.empty() || (!all && std::find(allowed.begin(), allowed.end(), origin) == allowed.end())) return;
  headers.set("Access-Control-Allow-Origin", all ? "*" : origin);
  if (!all) headers.set("Vary", "Origin");
  headers.set("Access-Control-Expose-Headers", "X-Request-Id, X-Worker-Hint, Retry-After, Warning");
}

void Connection::Generate(GenerationCall call) {
  if (call.spec.session_id().empty()) {
    const std::string session = RequestHeader(kSessionId);
    if (!base::IsUtf8(session)) {
      return Fail(rpc::FieldError(kSessionId, absl::StrCat("is \"", absl::CHexEscape(session.substr(0, rpc::kMaxNameBytes)),
                                                           "\", which is not UTF-8")));
    }
    call.spec.set_session_id(session);
  }
  call_ = std::move(call);
  head_sent_ = writing_ = false;
  held_batch_.reset();
  StartGeneration();
}

void Connection::StartGeneration() {
  generation_ =
      std::make_shared<Generation>(context_.generation, endpoint_->path,
                                   Generation::Options{.stream = call_->stream, .single_tool_call = call_->single_tool_call},
                                   [weak = std::weak_ptr<Connection>(Self()), executor = executor_](Generation::Batch batch) {
                                     asio::post(executor, [weak, batch = std::move(batch)]() mutable {
                                       if (const auto self = weak.lock()) self->OnBatch(std::move(batch));
                                     });
                                   });
  generation_->Start({.tenant = tenant_->name,
                      .spec = call_->opens_session ? call_->spec : std::move(call_->spec),
                      .traceparent = RequestHeader("traceparent"),
                      .worker_hint = RequestHeader(kWorkerHint),
                      .limits = tenant_},
                     std::move(call_->more_prompts));
}

void Connection::OnBatch(Generation::Batch batch) {
  if (closed_ || generation_ == nullptr) return;
  if (batch.given_up) return CloseNow();
  if (writing_) {
    held_batch_ = std::move(batch);
    return;
  }
  heartbeat_.cancel();
  if (!head_sent_) levels_ = batch.levels;
  const bool last = batch.end.has_value();
  if (last && !head_sent_ && batch.messages.empty()) {
    generation_.reset();
    if (std::exchange(call_->opens_session, false) && rpc::Reason(*batch.end) == "SESSION_NOT_FOUND") {
      call_->spec.mutable_session()->set_start(true);
      return StartGeneration();
    }
    if (!batch.end->ok()) return Fail(*batch.end);
    if (batch.whole.has_value()) {
      return Answer({.body = call_->format->Whole(*batch.whole),
                     .headers = {{kRequestId, batch.whole->request_id()}, {kWorkerHint, WorkerHint(batch.whole->started())}}});
    }
  }
  std::string text;
  for (const v1::StreamGenerateResponse& message : batch.messages) text += call_->format->Format(message);
  if (last) text += call_->format->End(*batch.end);
  if (text.empty() && head_sent_ && !last) return AwaitMore();
  chunked_ = parser_->get().version() >= 11;
  std::string out;
  if (!std::exchange(head_sent_, true)) out = StreamHead(batch.messages.front());
  out += Framed(text);
  if (chunked_ && last) out += "0\r\n\r\n";
  Write(std::move(out), [this, last] {
    if (!last) return AwaitMore();
    generation_.reset();
    call_.reset();
    AnswerDone(keep_alive_ && chunked_);
  });
}

std::string Connection::StreamHead(const v1::StreamGenerateResponse& first) {
  bhttp::response<bhttp::empty_body> head(bhttp::status::ok, parser_->get().version());
  head.set(bhttp::field::content_type, call_->format->stream_type());
  head.set(bhttp::field::cache_control, "no-cache");
  head.set(kRequestId, first.request_id());
  if (first.has_started()) head.set(kWorkerHint, WorkerHint(first.started()));
  SetCommonHeaders(head);
  head.keep_alive(keep_alive_ && chunked_);
  if (chunked_) head.chunked(true);
  std::ostringstream text;
  text << head.base();
  return text.str();
}

std::string Connection::Framed(const std::string& text) const {
  return chunked_ && !text.empty() ? absl::StrFormat("%x\r\n%s\r\n", text.size(), text) : text;
}

void Connection::Write(std::string text, std::function<void()> then) {
  writing_ = true;
  out_ = std::move(text);
  stream_.tcp().expires_after(kWriteTimeout);
  asio::async_write(stream_, asio::buffer(out_), [self = Self(), then = std::move(then)](const ErrorCode& error, size_t) {
    if (error) return self->CloseNow();
    if (self->closed_) return;
    self->stream_.tcp().expires_never();
    self->writing_ = false;
    then();
  });
}

void Connection::AwaitMore() {
  generation_->Taken();
  BeatLater();
}

// Says something when nothing else is said for long, so that nobody on the way takes the connection for dead.
void Connection::BeatLater() {
  const std::string beat = Framed(call_->format->Heartbeat());
  if (beat.empty()) return;
  heartbeat_.expires_after(absl::ToChronoNanoseconds(context_.heartbeat));
  heartbeat_.async_wait([self = Self(), beat, generation = generation_](const ErrorCode& cancelled) {
    if (cancelled || self->closed_ || self->generation_ != generation || self->writing_) return;
    self->Write(beat, [connection = self.get()] {
      if (!connection->held_batch_.has_value()) return connection->BeatLater();
      connection->OnBatch(*std::exchange(connection->held_batch_, std::nullopt));
    });
  });
}

std::string Connection::RequestHeader(beast::string_view name) const { return std::string(parser_->get()[name]); }

}  // namespace berth::http
