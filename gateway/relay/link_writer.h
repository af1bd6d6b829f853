#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "proto/berth/v1/worker.pb.h"

namespace berth::relay {

// A submit without its prompt above this is refused before it comes here.
inline constexpr size_t kMaxInlineSubmit = 64 << 10;
inline constexpr size_t kMaxPromptChunk = 64 << 10;
// Frames stay near this; one submit may exceed it.
inline constexpr size_t kFrameTarget = 64 << 10;

// Composes the frames of one link to a worker. Cancels go before submits, submits before the pieces of large prompts, of which
// a frame carries one: neither a cancel nor a small request waits behind a large prompt. Thread: one owner.
class LinkWriter {
 public:
  // A submit beyond 64 KiB goes without its prompt, which follows in chunks.
  void Submit(v1::Submit submit);
  // False when the worker will say nothing of the stream: a submit that has not left yet is dropped with its chunks, and a
  // reattach that has not is replaced by a cancel of the request that is parked there.
  bool Cancel(v1::LinkCancel cancel);
  void Reattach(v1::Reattach reattach);
  void Acknowledge(uint64_t frame) { acknowledged_ = frame; }

  // The next frame; nothing when there is nothing to send. An acknowledgement alone makes a frame only when `acknowledge` is
  // set, but rides on every frame.
  std::optional<v1::AttachRequest> Next(bool acknowledge);

 private:
  struct LargePrompt {
    uint64_t stream_id = 0;
    std::string data;
    size_t sent = 0;
  };

  void AddSubmits(v1::AttachRequest& frame);
  void AddChunk(v1::AttachRequest& frame);

  std::deque<v1::LinkCancel> cancels_;
  std::deque<v1::Reattach> reattaches_;
  std::deque<v1::Submit> submits_;
  std::deque<LargePrompt> prompts_;
  uint64_t acknowledged_ = 0;
  uint64_t acknowledgement_sent_ = 0;
};

}  // namespace berth::relay
