#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "base/clock.h"
#include "gateway/admission/rate_limiter.h"
#include "gateway/relay/metrics.h"
#include "gateway/relay/relay.h"
#include "proto/rpc/collector.h"
#include "proto/rpc/shard.h"

namespace berth::http {

// The shard's side of one HTTP completion: one generation, or one for each of its prompts, whose choices are then numbered one
// prompt after the other and whose usage is added up. The connection's side calls the public functions from its own thread;
// they are posted to the shard. What the relay has comes back through `deliver`, on the shard's thread: one batch at a time,
// the next after Taken().
class Generation : public relay::StreamSink, public std::enable_shared_from_this<Generation> {
 public:
  struct Batch {
    std::vector<v1::StreamGenerateResponse> messages;
    // Of a request that does not stream: the whole answer.
    std::optional<v1::GenerateResponse> whole;
    // The last batch.
    std::optional<absl::Status> end;
    // In the first batch: what is left of the tenant's limits.
    admission::RateLimiter::Levels levels;
    // The caller was given up: the connection is to be closed.
    bool given_up = false;
  };
  using Deliver = std::function<void(Batch)>;

  struct Context {
    rpc::Shard& shard;
    relay::Relay& relay;
    relay::GatewayMetrics& metrics;
    const base::Clock& clock;
  };

  struct Options {
    bool stream = false;            // or the whole answer at once
    bool single_tool_call = false;  // later ones are left out
  };

  // `method` is a literal.
  Generation(const Context& context, const char* method, const Options& options, Deliver deliver);

  // Any thread. Once each at most, except Taken.
  void Start(relay::GenerationRequest request, std::vector<v1::Prompt> more_prompts);
  void Taken();
  // The caller has gone; nothing is delivered any more.
  void Abandon();

 private:
  struct Part {
    uint64_t id = 0;
    bool ended = false;
  };

  void OnReadable() override;
  void OnGivenUp(const absl::Status& status) override;
  void ReadPart(size_t index, Batch& batch);
  void Number(size_t part, v1::StreamGenerateResponse& message);
  void AbandonParts();
  void DeliverBatch(Batch batch);
  void Ended(absl::StatusCode code);

  const Context context_;
  const char* const method_;
  const Options options_;
  Deliver deliver_;
  rpc::Collector collector_;
  std::string model_;
  absl::Duration started_at_;
  std::vector<Part> parts_;
  int choice_count_ = 1;  // of each part
  v1::Usage usage_;       // of the parts that have ended
  bool named_ = false;    // the first request's id is the answer's
  admission::RateLimiter::Levels levels_;
  bool taken_ = true;
  bool ended_ = false;
  // While the relay holds this sink.
  std::shared_ptr<Generation> self_;
};

}  // namespace berth::http
