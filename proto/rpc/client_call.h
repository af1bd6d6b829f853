#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/check.h"
#include "grpcpp/client_context.h"
#include "grpcpp/impl/codegen/proto_utils.h"
#include "grpcpp/support/async_stream.h"
#include "grpcpp/support/async_unary_call.h"
#include "proto/rpc/shard.h"
#include "proto/rpc/status.h"

namespace berth::rpc {

struct CallOptions {
  absl::Duration timeout = absl::InfiniteDuration();
  std::vector<std::pair<std::string, std::string>> metadata;
  bool wait_for_ready = false;  // wait for the connection instead of failing UNAVAILABLE
};

// A call on a shard's queue. It stays alive until it is done, whoever holds it; its callbacks are dropped then. Thread: the
// shard's, Cancel excepted.
class ClientCall : public std::enable_shared_from_this<ClientCall> {
 public:
  virtual ~ClientCall() = default;
  // Any thread. The call still ends with its done callback.
  void Cancel() { context_.TryCancel(); }
  grpc::ClientContext& context() { return context_; }

 protected:
  ClientCall(Shard& shard, const CallOptions& options) : shard_(shard) {
    if (options.timeout != absl::InfiniteDuration()) {
      context_.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMicroseconds(options.timeout));
    }
    for (const auto& [key, value] : options.metadata) context_.AddMetadata(key, value);
    context_.set_wait_for_ready(options.wait_for_ready);
  }

  Shard& shard_;
  grpc::ClientContext context_;
  grpc::Status status_;
};

template <typename Response>
class ClientUnaryCall : public ClientCall {
 public:
  using Done = absl::AnyInvocable<void(const absl::Status&, Response&)>;

  ClientUnaryCall(Shard& shard, const CallOptions& options, Done done)
      : ClientCall(shard, options), done_(std::move(done)), finished_([this](bool) { Finished(); }) {}

  // `prepare(context, queue)` makes gRPC's reader.
  template <typename Prepare>
  void Start(const Prepare& prepare) {
    reader_ = prepare(&context_, &shard_.queue());
    reader_->StartCall();
    reader_->Finish(&response_, &status_, finished_.Arm(shard_, shared_from_this()));
  }

 private:
  void Finished() {
    Done done = std::move(done_);
    done(FromGrpc(status_), response_);
  }

  Response response_;
  Done done_;
  std::unique_ptr<grpc::ClientAsyncResponseReader<Response>> reader_;
  Event finished_;
};

// The reading side of calls with a response stream. `Stream` is gRPC's call object. Reading starts with the call and goes on by
// itself; on_done runs once, last.
template <typename Response, typename Stream>
class ReadingCall : public ClientCall {
 public:
  void OnRead(absl::AnyInvocable<void(Response&)> callback) { on_read_ = std::move(callback); }
  void OnDone(absl::AnyInvocable<void(const absl::Status&)> callback) { on_done_ = std::move(callback); }

  // Set the callbacks first. `prepare(context, queue)` makes gRPC's stream.
  template <typename Prepare>
  void Start(const Prepare& prepare) {
    stream_ = prepare(&context_, &shard_.queue());
    stream_->StartCall(started_.Arm(shard_, shared_from_this()));
  }

 protected:
  ReadingCall(Shard& shard, const CallOptions& options)
      : ClientCall(shard, options),
        started_([this](bool ok) { Started(ok); }),
        read_([this](bool ok) { Read(ok); }),
        finished_([this](bool) { Finished(); }) {}

  virtual void OnStarted() {}
  virtual bool MayFinish() const { return true; }
  virtual void DropCallbacks() { on_read_ = nullptr; }
  void FinishIfOver() {
    if (!over_ || finishing_ || !MayFinish()) return;
    finishing_ = true;
    stream_->Finish(&status_, finished_.Arm(shard_, shared_from_this()));
  }
  bool over() const { return over_; }

  std::unique_ptr<Stream> stream_;

 private:
  void Started(bool ok) {
    if (ok) {
      ReadNext();
      OnStarted();
    } else {
      over_ = true;
      FinishIfOver();
    }
  }
  void ReadNext() { stream_->Read(&response_, read_.Arm(shard_, shared_from_this())); }
  void Read(bool ok) {
    if (ok) {
      if (on_read_) on_read_(response_);
      ReadNext();
    } else {
      over_ = true;
      FinishIfOver();
    }
  }
  void Finished() {
    auto done = std::move(on_done_);
    DropCallbacks();
    if (done) done(FromGrpc(status_));
  }

  Response response_;
  Event started_, read_, finished_;
  bool over_ = false, finishing_ = false;
  absl::AnyInvocable<void(Response&)> on_read_;
  absl::AnyInvocable<void(const absl::Status&)> on_done_;
};

template <typename Response>
class ClientStreamCall : public ReadingCall<Response, grpc::ClientAsyncReader<Response>> {
 public:
  ClientStreamCall(Shard& shard, const CallOptions& options)
      : ReadingCall<Response, grpc::ClientAsyncReader<Response>>(shard, options) {}
};

template <typename Request, typename Response>
class ClientBidiCall : public ReadingCall<Response, grpc::ClientAsyncReaderWriter<Request, Response>> {
 public:
  using Base = ReadingCall<Response, grpc::ClientAsyncReaderWriter<Request, Response>>;

  ClientBidiCall(Shard& shard, const CallOptions& options)
      : Base(shard, options), written_([this](bool ok) { Written(ok); }), half_closed_([](bool) {}) {}

  // The call can be written to: first after the start, then after each write. Not run once the call is over.
  void OnWritable(absl::AnyInvocable<void()> callback) { on_writable_ = std::move(callback); }
  bool writable() const { return started_ && !writing_ && !this->over(); }
  // Only when writable().
  void Write(const Request& request) {
    BERTH_CHECK(writable()) << "write on a call that is not writable";
    writing_ = true;
    this->stream_->Write(request, written_.Arm(this->shard_, this->shared_from_this()));
  }
  // Half-closes; only when writable(), and nothing is written afterwards.
  void WritesDone() {
    BERTH_CHECK(writable()) << "half-close on a call that is not writable";
    this->stream_->WritesDone(half_closed_.Arm(this->shard_, this->shared_from_this()));
  }

 private:
  void OnStarted() override {
    started_ = true;
    if (on_writable_) on_writable_();
  }
  bool MayFinish() const override { return !writing_; }
  void DropCallbacks() override {
    on_writable_ = nullptr;
    Base::DropCallbacks();
  }
  void Written(bool ok) {
    writing_ = false;
    if (this->over()) {
      this->FinishIfOver();
    } else if (ok && on_writable_) {
      on_writable_();
    }
  }

  Event written_, half_closed_;
  bool started_ = false, writing_ = false;
  absl::AnyInvocable<void()> on_writable_;
};

// Starts a unary call: CallUnary(shard, stub, &Stub::PrepareAsyncCancel, request, options, [](status, response) { … }).
template <typename Stub, typename Request, typename Response>
std::shared_ptr<ClientCall> CallUnary(Shard& shard, Stub& stub,
                                      std::unique_ptr<grpc::ClientAsyncResponseReader<Response>> (Stub::*prepare)(
                                          grpc::ClientContext*, const Request&, grpc::CompletionQueue*),
                                      const Request& request, const CallOptions& options,
                                      std::type_identity_t<typename ClientUnaryCall<Response>::Done> done) {
  auto call = std::make_shared<ClientUnaryCall<Response>>(shard, options, std::move(done));
  call->Start(
      [&](grpc::ClientContext* context, grpc::CompletionQueue* queue) { return (stub.*prepare)(context, request, queue); });
  return call;
}

// Starts a call whose responses stream; `on_done` comes last.
template <typename Stub, typename Request, typename Response>
std::shared_ptr<ClientCall> CallServerStream(Shard& shard, Stub& stub,
                                             std::unique_ptr<grpc::ClientAsyncReader<Response>> (Stub::*prepare)(
                                                 grpc::ClientContext*, const Request&, grpc::CompletionQueue*),
                                             const Request& request, const CallOptions& options,
                                             std::type_identity_t<absl::AnyInvocable<void(Response&)>> on_read,
                                             absl::AnyInvocable<void(const absl::Status&)> on_done) {
  auto call = std::make_shared<ClientStreamCall<Response>>(shard, options);
  call->OnRead(std::move(on_read));
  call->OnDone(std::move(on_done));
  call->Start(
      [&](grpc::ClientContext* context, grpc::CompletionQueue* queue) { return (stub.*prepare)(context, request, queue); });
  return call;
}

// Makes a bidirectional call; set its callbacks, then StartBidi.
template <typename Stub, typename Request, typename Response>
void StartBidi(ClientBidiCall<Request, Response>& call, Stub& stub,
               std::unique_ptr<grpc::ClientAsyncReaderWriter<Request, Response>> (Stub::*prepare)(grpc::ClientContext*,
                                                                                                  grpc::CompletionQueue*)) {
  call.Start([&](grpc::ClientContext* context, grpc::CompletionQueue* queue) { return (stub.*prepare)(context, queue); });
}

}  // namespace berth::rpc
