#pragma once

#include "proto/berth/v1/inference.pb.h"

namespace berth::rpc {

// Gathers the messages of one stream into the whole answer. Thread: one owner.
class Collector {
 public:
  void Add(v1::StreamGenerateResponse& message);
  // The choices in order of their index. Complete once Finished was added.
  v1::GenerateResponse& response() { return response_; }

 private:
  v1::GenerateResponse::Choice& Choice(int index);
  void AddDelta(v1::Delta& delta);
  void AddFinished(v1::Finished& finished);

  v1::GenerateResponse response_;
};

}  // namespace berth::rpc
