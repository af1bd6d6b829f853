#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "boost/asio/any_io_executor.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/steady_timer.hpp"
#include "boost/beast/core/flat_buffer.hpp"
#include "boost/beast/http/message.hpp"
#include "boost/beast/http/parser.hpp"
#include "boost/beast/http/string_body.hpp"
#include "gateway/http/endpoints.h"
#include "gateway/http/exchange.h"
#include "gateway/http/stream.h"

namespace berth::http {

// One connection: reads a request, answers it, reads the next. While an answer is made it watches for the caller going away.
// Thread: its strand, except where said.
class Connection : public Exchange {
 public:
  // `tls` is null for plaintext; `on_gone` runs in the destructor.
  Connection(boost::asio::ip::tcp::socket socket, TlsContext::Snapshot tls, const ConnectionContext& context,
             std::function<void()> on_gone);
  ~Connection() override;

  // Any thread.
  void Start();
  // Closes now when no request is under way, else after its answer.
  void Drain();
  void Close();

  const ConnectionContext& context() const override { return context_; }
  const std::string& path() const override { return path_; }
  const std::string& body() const override { return parser_->get().body(); }
  std::string header(const char* name) const override { return RequestHeader(name); }
  const std::shared_ptr<const rpc::Tenant>& tenant() const override { return tenant_; }
  void Answer(HttpAnswer answer) override;
  void Fail(const absl::Status& status) override;
  void Generate(GenerationCall call) override;
  void OnGone(std::function<void()> callback) override { on_caller_gone_ = std::move(callback); }
  void Post(std::function<void()> task) override;

 private:
  using ErrorCode = boost::system::error_code;
  using Response = boost::beast::http::response<boost::beast::http::string_body>;
  using Headers = boost::beast::http::fields;

  // Holds a header with what came behind it, or what surrounds chunks: their extensions, and the trailer.
  static constexpr size_t kMaxBufferBytes = 256 << 10;
  // Of a body that is of no use, or whose sender has no key.
  static constexpr size_t kMaxOpenBodyBytes = 64 << 10;

  // connection.cc: reading, and the ways to go on after an answer.
  std::shared_ptr<Connection> Self() { return std::static_pointer_cast<Connection>(shared_from_this()); }
  void Handshake();
  void AwaitRequest();
  void ReadHeader();
  void LimitReading();
  void OnHeader(const ErrorCode& error);
  void ReadBody();
  void OnBody(const ErrorCode& error);
  void RejectUnreadable(const ErrorCode& error);
  void StopReading();
  void Watch();
  void OnWatched(const ErrorCode& error, size_t read);
  void Discard(size_t left);
  void AnswerDone(bool keep_alive);
  void NextRequest();
  void CloseAfterAnswer();
  void CloseNow();

  // connection_answer.cc: answering.
  void Handle();
  void HandlePreflight();
  std::optional<HttpAnswer> FindRefusal(bool large);
  HttpAnswer Failure(const absl::Status& status) const;
  HttpAnswer HttpFailure(int code, const std::string& message, const std::string& reason) const;
  HttpAnswer TooLarge(const std::string& what, size_t most) const;
  std::string AllowedMethods() const;
  void OnAnswered(const ErrorCode& error);
  void SetCommonHeaders(Headers& headers);
  void StartGeneration();
  void OnBatch(Generation::Batch batch);
  std::string StreamHead(const v1::StreamGenerateResponse& first);
  std::string Framed(const std::string& text) const;
  void Write(std::string text, std::function<void()> then);
  void AwaitMore();
  void BeatLater();
  std::string RequestHeader(boost::beast::string_view name) const;

  Stream stream_;
  const boost::asio::any_io_executor executor_;
  const ConnectionContext context_;
  const std::function<void()> on_gone_;
  boost::beast::flat_buffer buffer_{kMaxBufferBytes};
  std::optional<boost::beast::http::request_parser<boost::beast::http::string_body>> parser_;
  std::optional<Response> response_;
  std::string out_;

  bool busy_ = false, keep_alive_ = false, draining_ = false, closed_ = false, discard_rest_ = false;
  bool watching_ = false, answered_ = false;
  boost::asio::steady_timer request_timer_;
  bool timed_out_ = false;

  // Of the request at hand. Nobody else holds the connection while it waits for an answer to send.
  std::shared_ptr<Connection> self_;
  std::string path_;
  const Endpoint* endpoint_ = nullptr;
  std::optional<HttpAnswer> refusal_;
  std::shared_ptr<const rpc::Tenant> tenant_;
  std::function<void()> on_caller_gone_;
  std::optional<GenerationCall> call_;
  std::shared_ptr<Generation> generation_;
  bool chunked_ = false, head_sent_ = false;
  bool writing_ = false;
  // One that came while a heartbeat was written.
  std::optional<Generation::Batch> held_batch_;
  admission::RateLimiter::Levels levels_;
  boost::asio::steady_timer heartbeat_;
};

}  // namespace berth::http
