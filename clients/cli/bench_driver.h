#pragma once

#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "clients/cli/bench_progress.h"
#include "worker/engine/engine.h"

namespace berth::cli {

struct BenchRequest {
  int prompt = 0;
  int output = 0;
  double arrival = 0;  // seconds after the start of the run
  // Of requests to a server:
  int shared = 0;  // the first so many tokens of the prompt are those of the others of its group
  int group = 0;
  bool conversation = false;  // of text: `prompt` counts words
  bool follows = false;       // it goes on with the conversation of the request before it, once that has its answer
};

// In seconds after the start of the run.
struct RequestTimes {
  double added = 0;  // from when its times count: in an open load its arrival, else when it was handed over
  double first = 0;  // its first token came
  double last = 0;
  int tokens = 0;  // of output
  int prompt = 0;  // tokens, as a server counts them; 0: as many as were asked for
  int cached = 0;  // of them, those that a server had in its cache
};

// Output of a request came; before it is counted in request.tokens. `gaps`: as RunTimes has them.
inline void NoteOutput(double now, RequestTimes& request, std::vector<double>& gaps) {
  if (request.tokens == 0) {
    request.first = now;
  } else {
    gaps.push_back(now - request.last);
  }
  request.last = now;
}

// What one run of some requests took.
struct RunTimes {
  std::vector<RequestTimes> requests;
  std::vector<double> gaps;                    // between a request's successive outputs, of all requests
  std::vector<std::pair<double, int>> tokens;  // when some came, and how many, of all requests
  double end = 0;
  std::vector<double> host_steps;  // seconds that the engine thread works on each step; empty: unknown
};

// Runs requests on an engine of its own, without RPC, and notes when their tokens come: greedy, no token ends an answer,
// prompts are fresh random ids, no prefix is found in a cache.
class EngineDriver {
 public:
  // `depth`: plans in flight. `vocab`: ids that prompts are drawn from; at least 4. `progress` outlives it.
  EngineDriver(std::unique_ptr<engine::Executor> executor, int depth, int vocab, BenchProgress& progress,
               const base::Clock& clock = base::SystemClock());

  const engine::ExecutorLimits& limits() const { return engine_.limits(); }

  // Hands over each request at its arrival, in order. `in_flight` > 0: not before fewer than that many others run; arrivals
  // must then be 0. An error is the engine's, or a request that did not end at its output's length.
  absl::StatusOr<RunTimes> Run(const std::vector<BenchRequest>& requests, int in_flight);

 private:
  class Submitter;
  // Reads the engine's output until every request has ended. `refill`: each that ends makes room for the next one.
  absl::Status Collect(Submitter& submitter, bool refill, RunTimes& times);
  absl::Status RunAtArrivals(const std::vector<BenchRequest>& requests, Submitter& submitter, RunTimes& times);

  const int vocab_;
  BenchProgress& progress_;
  const base::Clock& clock_;
  std::mt19937 random_{1};
  engine::SequenceId next_id_ = 1;
  absl::Duration host_time_;  // the engine thread's, up to the last output that was read
  engine::Engine engine_;
};

}  // namespace berth::cli
