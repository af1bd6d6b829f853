#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "base/check.h"
#include "grpcpp/impl/codegen/proto_utils.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/async_stream.h"
#include "grpcpp/support/async_unary_call.h"
#include "proto/rpc/shard.h"
#include "proto/rpc/status.h"

namespace berth::rpc {

// What every kind of server call shares. The framework keeps a call alive until its last operation completed; a handler keeps
// its shared_ptr for as long as it wants to answer. Callbacks are dropped when the call is over, so they may hold what holds
// the call. Thread: the call's shard.
class ServerCall : public std::enable_shared_from_this<ServerCall> {
 public:
  virtual ~ServerCall() = default;

  grpc::ServerContext& context() { return context_; }
  Shard& shard() { return shard_; }
  // Empty when the caller did not send it.
  std::string metadata(std::string_view key) const {
    const auto it = context_.client_metadata().find(grpc::string_ref(key.data(), key.size()));
    return it == context_.client_metadata().end() ? "" : std::string(it->second.data(), it->second.size());
  }

  // Runs once if the caller goes away (cancel, deadline, disconnect) before Finish. The framework then ends the call itself.
  void OnCancel(absl::AnyInvocable<void()> callback) { on_cancel_ = std::move(callback); }
  // True once the call was finished or the caller went away: writes and Finish have no effect any more.
  bool ended() const { return ended_; }

 protected:
  explicit ServerCall(Shard& shard)
      : shard_(shard), done_([this](bool) { OnDone(); }), finished_([this](bool) { OnFinished(); }) {
    context_.AsyncNotifyWhenDone(done_.tag());
  }

  // The notification comes only for calls that started.
  void ExpectDone() { done_.Expect(shard_, shared_from_this()); }
  // False when the call has ended already; else it has ended now.
  bool End() { return !std::exchange(ended_, true); }
  void* FinishTag() { return finished_.Arm(shard_, shared_from_this()); }
  virtual void FinishCancelled() = 0;
  virtual void DropCallbacks() { on_cancel_ = nullptr; }

  grpc::ServerContext context_;
  Shard& shard_;

 private:
  void OnDone() {
    done_arrived_ = true;
    if (End()) {
      if (on_cancel_) on_cancel_();
      FinishCancelled();
    }
    if (finish_arrived_) DropCallbacks();
  }
  void OnFinished() {
    finish_arrived_ = true;
    if (done_arrived_) DropCallbacks();
  }

  Event done_, finished_;
  bool ended_ = false, done_arrived_ = false, finish_arrived_ = false;
  absl::AnyInvocable<void()> on_cancel_;
};

template <typename RequestT, typename ResponseT>
class UnaryCall : public ServerCall {
 public:
  using Request = RequestT;
  using Response = ResponseT;

  explicit UnaryCall(Shard& shard) : ServerCall(shard), writer_(&context_) {}

  Request& request() { return request_; }
  void Finish(const Response& response) {
    if (End()) writer_.Finish(response, grpc::Status::OK, FinishTag());
  }
  // `status` is an error.
  void Fail(const absl::Status& status) {
    if (End()) writer_.FinishWithError(ToGrpc(status), FinishTag());
  }

 private:
  template <typename, typename>
  friend class Method;

  template <typename Requester>
  void Listen(const Requester& requester, grpc::ServerCompletionQueue* queue, void* tag) {
    requester(&context_, &request_, &writer_, queue, queue, tag);
  }
  void Started() { ExpectDone(); }
  void AfterHandler() {}
  void FinishCancelled() override { writer_.FinishWithError(grpc::Status::CANCELLED, FinishTag()); }

  Request request_;
  grpc::ServerAsyncResponseWriter<Response> writer_;
};

// The writing side of calls with a response stream: one write in flight, Finish exactly once. `Stream` is gRPC's call object.
template <typename ResponseT, typename Stream>
class WritingCall : public ServerCall {
 public:
  using Response = ResponseT;

  // True while a write is in flight: then do not write.
  bool writing() const { return writing_; }
  // `more`: another write or the end follows at once, and may take this one along. The first goes alone: gRPC would never end a
  // write that holds back the initial metadata.
  void Write(const Response& response, bool more = false) {
    if (ended()) return;
    BERTH_CHECK(!writing_) << "a second write on one call";
    writing_ = true;
    const bool waits = std::exchange(begun_, true) && more;
    if (!waits) BeforeWrite();
    stream_.Write(response, waits ? grpc::WriteOptions().set_buffer_hint() : grpc::WriteOptions(),
                  written_.Arm(shard_, shared_from_this()));
  }
  // May be called while a write is in flight, and follows it.
  void Finish(const absl::Status& status) {
    if (!End()) return;
    final_ = ToGrpc(status);
    if (!writing_) FinishNow();
  }
  // The last message and OK in one go; no write may be in flight.
  void WriteAndFinish(const Response& response) {
    if (!End()) return;
    BERTH_CHECK(!writing_) << "a second write on one call";
    BeforeWrite();
    stream_.WriteAndFinish(response, grpc::WriteOptions(), grpc::Status::OK, FinishTag());
  }
  // Of its connection, which other calls may share; -1: unknown.
  int socket() {
    if (!socket_.has_value()) socket_ = this->shard_.gather().SocketOf(this->context_.peer());
    return *socket_;
  }
  // Runs after each write that the transport took, unless the call has ended.
  void OnWritten(absl::AnyInvocable<void()> callback) { on_written_ = std::move(callback); }

 protected:
  explicit WritingCall(Shard& shard) : ServerCall(shard), stream_(&context_), written_([this](bool ok) { Written(ok); }) {}

  void FinishCancelled() override {
    final_ = grpc::Status::CANCELLED;
    if (!writing_) FinishNow();
  }
  void DropCallbacks() override {
    on_written_ = nullptr;
    ServerCall::DropCallbacks();
  }

  Stream stream_;

 private:
  void BeforeWrite() { this->shard_.gather().BeforeWrite(socket()); }
  void FinishNow() {
    BeforeWrite();
    stream_.Finish(*final_, FinishTag());
  }
  void Written(bool ok) {
    writing_ = false;
    if (final_.has_value()) {
      FinishNow();
    } else if (ok && !ended() && on_written_) {
      on_written_();
    }
  }

  Event written_;
  bool begun_ = false, writing_ = false;
  std::optional<grpc::Status> final_;
  std::optional<int> socket_;
  absl::AnyInvocable<void()> on_written_;
};

template <typename RequestT, typename ResponseT>
class ServerStreamCall : public WritingCall<ResponseT, grpc::ServerAsyncWriter<ResponseT>> {
 public:
  using Request = RequestT;

  explicit ServerStreamCall(Shard& shard) : WritingCall<ResponseT, grpc::ServerAsyncWriter<ResponseT>>(shard) {}

  Request& request() { return request_; }

 private:
  template <typename, typename>
  friend class Method;

  template <typename Requester>
  void Listen(const Requester& requester, grpc::ServerCompletionQueue* queue, void* tag) {
    requester(&this->context_, &request_, &this->stream_, queue, queue, tag);
  }
  void Started() { this->ExpectDone(); }
  void AfterHandler() {}

  Request request_;
};

template <typename RequestT, typename ResponseT>
class BidiCall : public WritingCall<ResponseT, grpc::ServerAsyncReaderWriter<ResponseT, RequestT>> {
 public:
  using Request = RequestT;
  using Base = WritingCall<ResponseT, grpc::ServerAsyncReaderWriter<ResponseT, RequestT>>;

  explicit BidiCall(Shard& shard) : Base(shard), read_([this](bool ok) { Read(ok); }) {}

  // Set both in the handler: reading starts when it returns and goes on by itself. The message may be moved from.
  void OnRead(absl::AnyInvocable<void(Request&)> callback) { on_read_ = std::move(callback); }
  // The caller has half-closed. Not run when the call was cancelled.
  void OnReadsDone(absl::AnyInvocable<void()> callback) { on_reads_done_ = std::move(callback); }

 private:
  template <typename, typename>
  friend class Method;

  template <typename Requester>
  void Listen(const Requester& requester, grpc::ServerCompletionQueue* queue, void* tag) {
    requester(&this->context_, &this->stream_, queue, queue, tag);
  }
  void Started() { this->ExpectDone(); }
  void AfterHandler() { this->stream_.Read(&request_, read_.Arm(this->shard_, this->shared_from_this())); }
  void Read(bool ok) {
    if (this->ended()) return;
    if (!ok) {
      if (on_reads_done_) on_reads_done_();
      return;
    }
    if (on_read_) on_read_(request_);
    if (!this->ended()) AfterHandler();
  }
  void DropCallbacks() override {
    on_read_ = nullptr;
    on_reads_done_ = nullptr;
    Base::DropCallbacks();
  }

  Request request_;
  Event read_;
  absl::AnyInvocable<void(Request&)> on_read_;
  absl::AnyInvocable<void()> on_reads_done_;
};

// One method of a service: keeps `outstanding` requests for calls on every shard. Lives until the last of them came back.
class MethodBase : public std::enable_shared_from_this<MethodBase> {
 public:
  virtual ~MethodBase() = default;
  virtual void Listen(Shard& shard) = 0;
};

template <typename Call, typename Requester>
class Method : public MethodBase {
 public:
  using Handler = absl::AnyInvocable<void(std::shared_ptr<Call>)>;

  // Several shards run `handler` at once.
  Method(Requester requester, Handler handler, int outstanding)
      : requester_(std::move(requester)), handler_(std::move(handler)), outstanding_(outstanding) {}

  void Listen(Shard& shard) override {
    for (int i = 0; i < outstanding_; ++i) ListenOnce(shard);
  }

 private:
  struct Pending {
    Pending(std::shared_ptr<MethodBase> method, Shard& shard)
        : method(std::move(method)),
          call(std::make_shared<Call>(shard)),
          accepted([this, &shard](bool ok) { static_cast<Method&>(*this->method).Accepted(call, shard, ok); }) {}
    const std::shared_ptr<MethodBase> method;
    const std::shared_ptr<Call> call;
    Event accepted;
  };

  void ListenOnce(Shard& shard) {
    auto pending = std::make_shared<Pending>(shared_from_this(), shard);
    pending->call->Listen(requester_, static_cast<grpc::ServerCompletionQueue*>(&shard.queue()),
                          pending->accepted.Arm(shard, pending));
  }
  void Accepted(const std::shared_ptr<Call>& call, Shard& shard, bool ok) {
    if (!ok) return;  // the server is shutting down
    call->Started();
    handler_(call);
    call->AfterHandler();
    ListenOnce(shard);  // last: the caller need not wait for it
  }

  Requester requester_;
  Handler handler_;
  const int outstanding_;
};

}  // namespace berth::rpc
