#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/clock.h"
#include "proto/berth/v1/inference.pb.h"
#include "proto/rpc/server_call.h"
#include "worker/engine/engine.h"
#include "worker/service/served_model.h"
#include "worker/service/tokenizer_pool.h"

namespace berth::service {

// Answers InferenceService.Embed: each input is a pooled sequence of the engine, beside the generations. Everything happens on
// the shard's thread, the I/O thread, which must be the calls' shard.
class Embedder {
 public:
  using Call = rpc::UnaryCall<v1::EmbedRequest, v1::EmbedResponse>;
  struct Parts {
    const ServedModel& model;
    engine::Engine& engine;
    TokenizerPool& pool;
    rpc::Shard& shard;
    const base::Clock& clock;
  };
  explicit Embedder(const Parts& parts) : parts_(parts) {}

  void Embed(std::shared_ptr<Call> call);
  // One batch of the step ring.
  void OnSteps(const std::vector<engine::StepOutput>& steps);

 private:
  using TokenLists = std::vector<std::vector<int32_t>>;
  // One call and what it has in the engine.
  struct Batch {
    std::shared_ptr<Call> call;
    absl::Duration deadline;
    v1::EmbedResponse response;
    int inputs = 0;   // that count among `inputs_`
    int missing = 0;  // embeddings
    std::vector<engine::SequenceId> sequences;
  };

  absl::Status Check(const v1::EmbedRequest& request) const;
  void Start(const std::shared_ptr<Batch>& batch, absl::StatusOr<TokenLists> inputs);
  absl::Status Add(const std::shared_ptr<Batch>& batch, std::vector<int32_t> tokens);
  void Apply(const engine::SequenceUpdate& update);
  void Fail(Batch& batch, const absl::Status& error);
  void StopSequences(Batch& batch);

  const Parts parts_;
  int inputs_ = 0;                                        // of calls that have not ended
  engine::SequenceId next_sequence_ = uint64_t{1} << 63;  // apart from GenerationCore's
  absl::flat_hash_map<engine::SequenceId, std::pair<std::shared_ptr<Batch>, int>> sequences_;
};

}  // namespace berth::service
