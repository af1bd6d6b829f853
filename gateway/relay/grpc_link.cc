#include "gateway/relay/grpc_link.h"

#include <utility>

#include "proto/berth/v1/worker.grpc.pb.h"
#include "proto/rpc/channel.h"
#include "proto/rpc/client_call.h"

namespace berth::relay {
namespace {

using AttachCall = rpc::ClientBidiCall<v1::AttachRequest, v1::AttachResponse>;

class GrpcLink : public LinkTransport {
 public:
  GrpcLink(rpc::Shard& shard, const std::shared_ptr<grpc::Channel>& channel, Observer& observer)
      : stub_(v1::WorkerService::NewStub(channel)),
        observer_(std::make_shared<Observer*>(&observer)),
        call_(std::make_shared<AttachCall>(shard, rpc::CallOptions{.wait_for_ready = false})) {
    // The call outlives this object until it is done; it looks the observer up, which is gone by then.
    call_->OnWritable([to = observer_] {
      if (*to != nullptr) (*to)->OnWritable();
    });
    call_->OnRead([to = observer_](v1::AttachResponse& frame) {
      if (*to != nullptr) (*to)->OnFrame(frame);
    });
    call_->OnDone([to = observer_](const absl::Status& status) {
      if (*to != nullptr) (*to)->OnClosed(status);
    });
    rpc::StartBidi(*call_, *stub_, &v1::WorkerService::Stub::PrepareAsyncAttach);
  }
  ~GrpcLink() override {
    *observer_ = nullptr;
    call_->Cancel();
  }
  void Write(const v1::AttachRequest& frame) override {
    if (call_->writable()) call_->Write(frame);
  }

 private:
  const std::unique_ptr<v1::WorkerService::Stub> stub_;
  const std::shared_ptr<Observer*> observer_;
  const std::shared_ptr<AttachCall> call_;
};

}  // namespace

LinkFactory GrpcLinkFactory(rpc::Shard& shard, std::shared_ptr<grpc::ChannelCredentials> credentials) {
  return
      [&shard, credentials = std::move(credentials)](const routing::WorkerAddress& worker, LinkTransport::Observer& observer) {
        return std::make_unique<GrpcLink>(shard, rpc::MakeChannel(worker.address, credentials), observer);
      };
}

}  // namespace berth::relay
