#pragma once

#include <grpcpp/grpcpp.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "base/mutex.h"
#include "clients/cpp/client.h"
#include "proto/berth/v1/inference.grpc.pb.h"
#include "proto/berth/v1/session.grpc.pb.h"
#include "proto/rpc/status.h"

namespace berth::cli {

// A server on loopback that answers "<text> heard" in two pieces. To "forever" it answers one piece and then waits for a
// cancel.
class FakeServer : public v1::InferenceService::Service, public v1::SessionService::Service {
 public:
  FakeServer() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(static_cast<v1::InferenceService::Service*>(this));
    builder.RegisterService(static_cast<v1::SessionService::Service*>(this));
    server_ = builder.BuildAndStart();
  }

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  std::unique_ptr<client::Client> Client() const { return *client::Client::Make({.gateways = {address()}}); }

  // What came, in order. Read it when no call runs.
  std::vector<v1::GenerationSpec> specs;
  std::vector<std::string> hints, closed;
  // The next generation ends so, at once or after its first piece.
  absl::Status next_status;
  bool breaks_later = false;
  bool cancel_finds = true, cancel_ends = true;
  absl::Duration cancel_time, close_time;  // until the deadline of the last such call, as it came

 private:
  grpc::Status StreamGenerate(grpc::ServerContext* context, const v1::StreamGenerateRequest* request,
                              grpc::ServerWriter<v1::StreamGenerateResponse>* writer) override {
    const v1::GenerationSpec& spec = request->generation();
    specs.push_back(spec);
    const auto hint = context->client_metadata().find("x-worker-hint");
    hints.push_back(hint == context->client_metadata().end() ? "" : std::string(hint->second.data(), hint->second.size()));
    const absl::Status end = std::exchange(next_status, absl::OkStatus());
    if (!end.ok() && !breaks_later) return rpc::ToGrpc(end);
    const auto& messages = spec.prompt().chat().messages();
    const std::string text = messages[messages.size() - 1].content();
    uint64_t seq = spec.resume().next_seq();
    v1::StreamGenerateResponse response;
    const auto send = [&] {
      response.set_seq(seq++);
      writer->Write(response);
    };
    if (seq == 0) {
      response.mutable_started()->set_worker_id("w");
      response.mutable_started()->set_worker_incarnation(7);
    } else {
      response.mutable_resumed()->set_worker_id("w2");
      response.mutable_resumed()->set_worker_incarnation(8);
    }
    send();
    const int told = spec.resume().choices_size() == 0 ? 0 : spec.resume().choices(0).token_ids_size();
    if (told < 1) {
      SetPiece(0, text, response);
      send();
    }
    if (!end.ok()) return rpc::ToGrpc(end);
    if (text == "forever") {
      base::MutexLock lock(mutex_);
      while (!cancelled_.contains(spec.request_id()) && !context->IsCancelled())
        condition_.WaitFor(mutex_, absl::Milliseconds(50));
    } else {
      SetPiece(1, " heard", response);
      send();
    }
    response.mutable_finished();
    send();
    return grpc::Status::OK;
  }

  // One token.
  static void SetPiece(int index, const std::string& text, v1::StreamGenerateResponse& response) {
    v1::Delta& delta = *response.mutable_delta();
    delta.Clear();
    delta.set_text(text);
    delta.add_token_ids(100 + index);
    delta.set_first_token_index(index);
  }

  static absl::Duration TimeLeft(const grpc::ServerContext& context) {
    return absl::FromChrono(context.deadline()) - absl::Now();
  }

  grpc::Status Cancel(grpc::ServerContext* context, const v1::CancelRequest* request, v1::CancelResponse* response) override {
    base::MutexLock lock(mutex_);
    cancel_time = TimeLeft(*context);
    response->set_found(cancel_finds);
    if (cancel_finds && cancel_ends) cancelled_.insert(request->request_id());
    condition_.NotifyAll();
    return grpc::Status::OK;
  }

  grpc::Status CloseSession(grpc::ServerContext* context, const v1::CloseSessionRequest* request,
                            v1::CloseSessionResponse* response) override {
    close_time = TimeLeft(*context);
    closed.push_back(request->session_id());
    response->set_found(true);
    return grpc::Status::OK;
  }

  int port_ = 0;
  base::Mutex mutex_;
  base::CondVar condition_;
  std::set<std::string> cancelled_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<grpc::Server> server_;  // last: it stops before the rest goes
};

}  // namespace berth::cli
