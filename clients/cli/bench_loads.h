#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "clients/cli/bench_driver.h"
#include "clients/cli/bench_trace.h"

namespace berth::cli {

// What is asked of the engine in one row of a table, and how its figures read.
struct BenchLoad {
  enum class Kind : char {
    kOne = 'A',         // one sequence
    kBatch = 'B',       // all at once
    kTrace = 'C',       // a trace, so many at any time
    kOpen = 'P',        // a trace, Poisson arrivals
    kFirstToken = 'D',  // one prompt's first token
    kDecode = 'G',      // all at once, short
  };
  Kind kind = Kind::kOne;
  std::string name;
  std::vector<BenchRequest> requests;
  int in_flight = 0;  // 0: no bound
};

// Whether the load is open: its requests come at times of their own, however long those before take.
bool HaveArrivals(const std::vector<BenchRequest>& requests);

struct TraceFiles {
  std::vector<TraceRequest> trace;
  std::vector<double> arrivals;  // in units of the mean gap
};

// The loads that a list names, separated by commas; a name alone stands for its usual rows.
//   A or A:IN/OUT       32/128, 1024/512
//   B or B:NxIN/OUT     8, 64 and 256 x 512/256
//   C or C:N@FLIGHT     N requests of the trace, FLIGHT of them at any time: 1000@256, 2000@1024
//   P or P:N@RATE       N requests of the trace, RATE a second: 400@16, 400@32
//   D or D:IN           128, 512, 1024, 2048, 4096 tokens; E is 8192
//   G or G:NxIN/OUT     1, 2, 4 … 512 x 128/128
//   generation          LMDeploy's grid of that name: B of 1, 16, 32 and 64 x 1/128, 128/128, 128/2048, 2048/128 and 2048/2048
// INVALID_ARGUMENT names the one that is none of these, or wants more requests than the files have.
absl::StatusOr<std::vector<BenchLoad>> ParseLoads(const std::string& list, const TraceFiles& files);

// Rows that differ in how much is asked of a server at a time: the same requests at each rate, then with each number in flight,
// then at the trace's own times.
struct Sweep {
  std::vector<double> request_rates;  // a second, Poisson arrivals
  std::vector<int> concurrencies;
  double replay = 0;  // so many times as fast as the trace was; 0: no such row
  int requests = 200;
  int prompt = 0, output = 0;  // tokens of each request; both 0: the trace's
  // Tokens that begin each prompt beside these, of `prefixes` different ones in turn.
  int prefix = 0, prefixes = 1;
  // Above 1: each of the requests is a conversation, of text, which goes on for so many turns, each as long as a request.
  // Rates and numbers in flight are of conversations.
  int turns = 1;
  uint64_t seed = 1;  // of the arrivals
};

// INVALID_ARGUMENT names the value that is out of range.
absl::StatusOr<std::vector<BenchLoad>> SweepLoads(const Sweep& sweep, const std::vector<TraceRequest>& trace);

// What ParseLoads needs for `list`: nothing is read for loads without a trace.
absl::StatusOr<TraceFiles> ReadTraceFiles(const std::string& list, const std::string& trace, const std::string& arrivals);

}  // namespace berth::cli
