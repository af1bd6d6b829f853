#include "clients/cli/bench_serve.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "clients/cli/bench_metrics.h"
#include "clients/cpp/async_client.h"
#include "proto/rpc/shard.h"

namespace berth::cli {
namespace {

constexpr int kFirstOrdinaryId = 3;
constexpr std::chrono::seconds kConnectPatience(20);
constexpr size_t kWarmUp = 64;  // requests of a discarded run

// What the threads of one run share.
struct Run {
  const std::vector<BenchRequest>& requests;
  const std::vector<v1::GenerationSpec> specs;
  std::atomic<size_t> next = 0;  // the request that is handed over next
  const absl::Duration start = base::SystemClock().Monotonic();
  double Now() const { return absl::ToDoubleSeconds(base::SystemClock().Monotonic() - start); }
};

// A connection and the thread that reads its streams.
struct Connection {
  explicit Connection(std::unique_ptr<client::Gateways> gateways)
      : shard(std::make_unique<grpc::CompletionQueue>()), client(std::move(gateways), {.attempts = 1}, shard) {
    shard.Start();
  }
  rpc::Shard shard;
  client::AsyncClient client;
};

// One connection's streams of a run. Thread: the connection's, but for Read.
class StreamReader {
 public:
  StreamReader(Run& run, Connection& connection, RunTimes& shared)
      : run_(run), connection_(connection), requests_(shared.requests) {}

  // Keeps `streams` requests running until none is left.
  void Begin(size_t streams) {
    connection_.shard.Post([this, streams] {
      open_ = streams + 1;
      for (size_t i = 0; i < streams; ++i) Next();
      Close();
    });
  }
  absl::Status Wait() {
    done_.Wait();
    return failure_;
  }

  RunTimes times;  // gaps, tokens and the end of its own streams

 private:
  void Next() {
    const size_t request = run_.next++;
    if (request >= run_.requests.size() || !failure_.ok()) return Close();
    const double wait = run_.requests[request].arrival - run_.Now();
    if (wait <= 0) return Start(request);
    connection_.shard.After(absl::Seconds(wait), [this, request] { Start(request); });
  }

  void Start(size_t request) {
    const double arrival = run_.requests[request].arrival;
    requests_[request].added = arrival > 0 ? arrival : run_.Now();
    connection_.client.Start(
        run_.specs[request], absl::InfiniteDuration(), [this, request](const auto& message) { Note(request, message); },
        [this](const absl::Status& status) {
          failure_.Update(status);
          Next();
        });
  }

  void Close() {
    if (--open_ == 0) done_.Notify();
  }

  void Note(size_t index, const v1::StreamGenerateResponse& message) {
    const int tokens = message.delta().token_ids_size();
    if (tokens == 0) return;
    const double now = run_.Now();
    RequestTimes& request = requests_[index];
    if (request.tokens == 0) {
      request.first = now;
    } else {
      times.gaps.push_back(now - request.last);
    }
    request.last = now;
    request.tokens += tokens;
    times.tokens.emplace_back(now, tokens);
    times.end = now;
  }

  Run& run_;
  Connection& connection_;
  std::vector<RequestTimes>& requests_;  // every thread writes to its own streams' entries
  size_t open_ = 0;
  absl::Status failure_;
  base::Notification done_;
};

class ServedDriver {
 public:
  explicit ServedDriver(const ServeBenchOptions& options) : options_(options) {}

  // So that no measured run has to.
  absl::Status Connect() {
    for (int i = 0; i < options_.threads; ++i) {
      BERTH_ASSIGN_OR_RETURN(std::unique_ptr<client::Gateways> gateways,
                             client::Gateways::Make({.gateways = {options_.server}}));
      if (!gateways->channel(0).WaitForConnected(std::chrono::system_clock::now() + kConnectPatience)) {
        return absl::UnavailableError(
            absl::StrCat("no connection to ", options_.server, " within ", kConnectPatience.count(), " s"));
      }
      connections_.push_back(std::make_unique<Connection>(std::move(gateways)));
    }
    return absl::OkStatus();
  }

  // As EngineDriver::Run.
  absl::StatusOr<RunTimes> Measure(const std::vector<BenchRequest>& requests, int in_flight) {
    Run run{.requests = requests, .specs = MakeSpecs(requests)};
    RunTimes times;
    times.requests.resize(requests.size());
    std::vector<std::unique_ptr<StreamReader>> readers;
    for (const auto& connection : connections_) readers.push_back(std::make_unique<StreamReader>(run, *connection, times));
    const size_t streams = in_flight > 0 ? in_flight : requests.size(), count = readers.size();
    for (size_t i = 0; i < count; ++i) readers[i]->Begin(streams / count + (i < streams % count ? 1 : 0));
    absl::Status ended;
    for (const auto& reader : readers) ended.Update(reader->Wait());
    BERTH_RETURN_IF_ERROR(ended);
    for (const auto& reader : readers) Merge(reader->times, times);
    std::sort(times.tokens.begin(), times.tokens.end());
    for (size_t i = 0; i < requests.size(); ++i) {
      if (times.requests[i].tokens == requests[i].output) continue;
      return absl::InternalError(
          absl::StrCat("request ", i, " has ", times.requests[i].tokens, " tokens of output, want ", requests[i].output));
    }
    return times;
  }

 private:
  static void Merge(const RunTimes& part, RunTimes& times) {
    times.gaps.insert(times.gaps.end(), part.gaps.begin(), part.gaps.end());
    times.tokens.insert(times.tokens.end(), part.tokens.begin(), part.tokens.end());
    times.end = std::max(times.end, part.end);
  }

  std::vector<v1::GenerationSpec> MakeSpecs(const std::vector<BenchRequest>& requests) {
    std::vector<v1::GenerationSpec> specs(requests.size());
    for (size_t i = 0; i < requests.size(); ++i) {
      v1::GenerationSpec& spec = specs[i];
      spec.set_model(options_.model);
      for (int n = 0; n < requests[i].prompt; ++n) {
        spec.mutable_prompt()->mutable_token_ids()->add_ids(
            static_cast<int32_t>(kFirstOrdinaryId + random_() % (options_.vocab - kFirstOrdinaryId)));
      }
      spec.mutable_sampling()->set_temperature(0);
      spec.mutable_stop()->set_max_tokens(requests[i].output);
      spec.mutable_stop()->set_ignore_eos(true);
      spec.mutable_output()->set_token_ids(true);
    }
    return specs;
  }

  const ServeBenchOptions& options_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::mt19937 random_{1};
};

}  // namespace

absl::Status ServeBenchOptions::Validate() const {
  if (repeats < 1) return absl::InvalidArgumentError(absl::StrCat("repeats ", repeats, ", want at least 1"));
  if (threads < 1) return absl::InvalidArgumentError(absl::StrCat("threads ", threads, ", want at least 1"));
  if (vocab <= kFirstOrdinaryId) return absl::InvalidArgumentError(absl::StrCat("vocab ", vocab, ", want at least 4"));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<LoadRow>> RunServeBench(const ServeBenchOptions& options,
                                                   const std::function<void(const LoadRow&)>& on_row) {
  BERTH_RETURN_IF_ERROR(options.Validate());
  ServedDriver driver(options);
  BERTH_RETURN_IF_ERROR(driver.Connect());
  std::vector<LoadRow> rows;
  for (const BenchLoad& load : options.loads) {
    std::vector<BenchRequest> warm_up = load.requests;
    warm_up.resize(std::min(warm_up.size(), kWarmUp));
    for (BenchRequest& request : warm_up) request.arrival = 0;
    BERTH_RETURN_IF_ERROR(driver.Measure(warm_up, load.in_flight).status());
    std::vector<RunTimes> runs;
    for (int i = 0; i < options.repeats; ++i) {
      BERTH_ASSIGN_OR_RETURN(runs.emplace_back(), driver.Measure(load.requests, load.in_flight));
    }
    rows.push_back({.kind = load.kind, .name = load.name, .figures = LoadFigures(load.requests, runs, options.objective)});
    if (on_row) on_row(rows.back());
  }
  return rows;
}

}  // namespace berth::cli
