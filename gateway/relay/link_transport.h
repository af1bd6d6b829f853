#pragma once

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "gateway/routing/worker_list.h"
#include "proto/berth/v1/worker.pb.h"

namespace berth::relay {

// One attempt at the Attach stream to a worker. Thread: the shard that owns the link.
class LinkTransport {
 public:
  class Observer {
   public:
    virtual ~Observer() = default;
    virtual void OnFrame(v1::AttachResponse& frame) = 0;
    // The stream is open and can be written to: first after its start, then after each write.
    virtual void OnWritable() = 0;
    // The stream is over, or could not be opened. Last call; the transport may be destroyed in it.
    virtual void OnClosed(const absl::Status& status) = 0;
  };

  // Cancels the stream; the observer is not called any more.
  virtual ~LinkTransport() = default;
  // Once per OnWritable.
  virtual void Write(const v1::AttachRequest& frame) = 0;
};

using LinkFactory =
    std::function<std::unique_ptr<LinkTransport>(const routing::WorkerAddress& worker, LinkTransport::Observer& observer)>;

}  // namespace berth::relay
