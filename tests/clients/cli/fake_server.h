#pragma once

#include <grpcpp/grpcpp.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "proto/berth/v1/inference.grpc.pb.h"
#include "proto/berth/v1/session.grpc.pb.h"
#include "proto/rpc/channel.h"
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

  std::shared_ptr<grpc::Channel> Channel() const {
    return rpc::MakeChannel("127.0.0.1:" + std::to_string(port_), *rpc::MakeChannelCredentials({}));
  }

  // What came, in order. Read it when no call runs.
  std::vector<v1::GenerationSpec> specs;
  std::vector<std::string> closed;
  // The next generation ends so.
  absl::Status next_status;
  bool cancel_finds = true;

 private:
  grpc::Status StreamGenerate(grpc::ServerContext* context, const v1::StreamGenerateRequest* request,
                              grpc::ServerWriter<v1::StreamGenerateResponse>* writer) override {
    const v1::GenerationSpec& spec = request->generation();
    specs.push_back(spec);
    if (const absl::Status status = std::exchange(next_status, absl::OkStatus()); !status.ok()) return rpc::ToGrpc(status);
    const auto& messages = spec.prompt().chat().messages();
    const std::string text = messages[messages.size() - 1].content();
    v1::StreamGenerateResponse response;
    response.mutable_started();
    writer->Write(response);
    response.mutable_delta()->set_text(text);
    writer->Write(response);
    if (text == "forever") {
      base::MutexLock lock(mutex_);
      while (!cancelled_.contains(spec.request_id()) && !context->IsCancelled())
        condition_.WaitFor(mutex_, absl::Milliseconds(50));
    } else {
      response.mutable_delta()->set_text(" heard");
      writer->Write(response);
    }
    response.mutable_finished();
    writer->Write(response);
    return grpc::Status::OK;
  }

  grpc::Status Cancel(grpc::ServerContext*, const v1::CancelRequest* request, v1::CancelResponse* response) override {
    base::MutexLock lock(mutex_);
    response->set_found(cancel_finds);
    if (cancel_finds) cancelled_.insert(request->request_id());
    condition_.NotifyAll();
    return grpc::Status::OK;
  }

  grpc::Status CloseSession(grpc::ServerContext*, const v1::CloseSessionRequest* request,
                            v1::CloseSessionResponse* response) override {
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
