#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "boost/asio/any_io_executor.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/beast/core/flat_buffer.hpp"
#include "boost/beast/http/message.hpp"
#include "boost/beast/http/parser.hpp"
#include "boost/beast/http/string_body.hpp"
#include "gateway/http/generation.h"
#include "gateway/http/page.h"
#include "gateway/http/request.h"
#include "gateway/http/response.h"
#include "gateway/http/stream.h"
#include "proto/rpc/api_keys.h"

namespace berth::http {

struct ConnectionContext {
  Generation::Context generation;
  const rpc::Authenticator& authenticator;
  // A worker is attached. Any thread.
  std::function<bool()> ready;
  size_t max_body_bytes = 32 << 20;
};

// One connection: reads a request, answers it, reads the next. While an answer is made it watches for the caller going away.
// Thread: its strand, except where said.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  // `tls` is null for plaintext; `on_gone` runs in the destructor.
  Connection(boost::asio::ip::tcp::socket socket, TlsContext::Snapshot tls, const ConnectionContext& context,
             std::function<void()> on_gone);
  ~Connection();

  // Any thread.
  void Start();
  // Closes now when no request is under way, else after its answer.
  void Drain();
  void Close();

 private:
  using ErrorCode = boost::system::error_code;
  using Response = boost::beast::http::response<boost::beast::http::string_body>;

  // Reading.
  void Handshake();
  void ReadHeader();
  void OnHeader(const ErrorCode& error);
  void ReadBody();
  void OnBody(const ErrorCode& error);
  void RejectUnreadable(const ErrorCode& error);
  void Watch();
  void OnWatched(const ErrorCode& error, size_t read);

  // Answering.
  void Handle();
  void HandleCompletion(const char* method, std::shared_ptr<const rpc::Tenant> tenant,
                        absl::StatusOr<CompletionRequest> request);
  void HandleModels(std::string name);
  void HandlePage(const PageFile& file);
  void Respond(int code, std::string body, std::string_view content_type = "application/json");
  void RespondError(const absl::Status& status);
  void RespondHttpError(int code, const std::string& message, const std::string& reason);
  void OnResponded(const ErrorCode& error);
  void Discard(size_t left);
  void AnswerDone(bool keep_alive);
  void NextRequest();
  void CloseAfterAnswer();
  void CloseNow();

  // A completion's batches.
  void OnBatch(Generation::Batch batch);
  std::string StreamHead(const v1::StreamGenerateResponse& first);
  void WriteEvents(std::string text, bool last);

  std::string RequestHeader(boost::beast::string_view name) const;

  Stream stream_;
  const boost::asio::any_io_executor executor_;
  const ConnectionContext context_;
  const std::function<void()> on_gone_;
  boost::beast::flat_buffer buffer_;
  std::optional<boost::beast::http::request_parser<boost::beast::http::string_body>> parser_;
  std::optional<Response> response_;
  std::string out_;

  bool busy_ = false, keep_alive_ = false, draining_ = false, closed_ = false, discard_rest_ = false;
  bool watching_ = false, answered_ = false;
  bool chunked_ = false, head_sent_ = false;
  std::shared_ptr<Generation> generation_;
  std::optional<ResponseHead> head_;
  admission::RateLimiter::Levels levels_;
  std::optional<EventFormatter> formatter_;
};

}  // namespace berth::http
