#include "clients/cli/bench_serve.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status.h"
#include "clients/cli/bench_metrics.h"
#include "clients/cli/bench_progress.h"

namespace berth::cli {
namespace {

constexpr int kFirstOrdinaryId = 3;
constexpr size_t kWarmUp = 64;  // requests of a discarded run

// Each a token in most vocabularies.
constexpr const char* kWords[] = {"the", "of",  "and", "to",   "in",   "is", "that", "for", "it",   "as", "was",
                                  "on",  "are", "by",  "this", "with", "be", "or",   "his", "from", "at", "which"};

// What the threads of one run share.
struct Run {
  const std::vector<BenchRequest>& requests;
  const std::vector<BenchAsk> asks;  // of a conversation: what is said in this turn
  std::vector<size_t> begins = {};   // the requests that follow no other
  std::atomic<size_t> next = 0;      // of `begins`: handed over next
  const base::Clock& clock;
  const bool open = HaveArrivals(requests);
  const absl::Duration start = clock.Monotonic();
  double Now() const { return absl::ToDoubleSeconds(clock.Monotonic() - start); }
};

// One caller's streams of a run. Thread: the caller's, but for Begin and Wait.
class StreamReader {
 public:
  StreamReader(Run& run, BenchCaller& caller, RunTimes& shared, BenchProgress& progress)
      : run_(run), caller_(caller), requests_(shared.requests), progress_(progress) {}

  // Keeps `streams` requests or conversations running until none is left.
  void Begin(size_t streams) {
    caller_.Post([this, streams] {
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
    const size_t next = run_.next++;
    if (next >= run_.begins.size() || !failure_.ok()) return Close();
    const size_t request = run_.begins[next];
    const double wait = run_.requests[request].arrival - run_.Now();
    if (wait <= 0) return Start(request, run_.asks[request]);
    caller_.After(absl::Seconds(wait), [this, request] { Start(request, run_.asks[request]); });
  }

  void Start(size_t request, BenchAsk ask) {
    const BenchRequest& asked = run_.requests[request];
    requests_[request].added = run_.open && !asked.follows ? asked.arrival : run_.Now();
    auto said = std::make_shared<std::string>();
    const bool keep = !ask.messages.empty();
    caller_.Start(
        ask,
        [this, request, said, keep](const BenchPart& part) {
          Note(request, part);
          if (keep) absl::StrAppend(said.get(), part.text);
        },
        [this, request, said, ask](const absl::Status& status) mutable { Ended(request, std::move(ask), *said, status); });
  }

  // The conversation goes on, or another begins.
  void Ended(size_t request, BenchAsk ask, const std::string& said, const absl::Status& status) {
    failure_.Update(status);
    progress_.Ended(1);
    const size_t next = request + 1;
    if (!status.ok() || next == run_.requests.size() || !run_.requests[next].follows) return Next();
    const BenchAsk& turn = run_.asks[next];
    ask.messages.push_back({.role = "assistant", .content = said});
    ask.messages.insert(ask.messages.end(), turn.messages.begin(), turn.messages.end());
    ask.output = turn.output;
    Start(next, std::move(ask));
  }

  void Close() {
    if (--open_ == 0) done_.Notify();
  }

  void Note(size_t index, const BenchPart& part) {
    RequestTimes& request = requests_[index];
    request.prompt += part.prompt_tokens;
    request.cached += part.cached_tokens;
    const double now = run_.Now();
    if (part.tokens > 0) {
      NoteOutput(now, request, times.gaps);
      times.end = now;
    }
    // Where the server's count says more than the pieces did.
    const int tokens = std::max(part.tokens, part.output_tokens - request.tokens);
    request.tokens += tokens;
    if (tokens > 0) times.tokens.emplace_back(now, tokens);
  }

  Run& run_;
  BenchCaller& caller_;
  std::vector<RequestTimes>& requests_;  // every thread writes to its own streams' entries
  BenchProgress& progress_;
  size_t open_ = 0;
  absl::Status failure_;
  base::Notification done_;
};

// Draws what is asked.
class Prompts {
 public:
  explicit Prompts(int vocab) : vocab_(vocab) {}

  std::vector<BenchAsk> Of(const std::vector<BenchRequest>& requests) {
    std::vector<BenchAsk> asks;
    for (const BenchRequest& request : requests) {
      BenchAsk& ask = asks.emplace_back(BenchAsk{.output = request.output});
      const int own = request.prompt - request.shared;
      if (request.conversation) {
        if (!request.follows) ask.session_id = absl::StrCat("bench-", random_());
        if (request.shared > 0) ask.messages.push_back({.role = "system", .content = Shared(words_, request, &Prompts::Words)});
        ask.messages.push_back({.role = "user", .content = Words(own)});
        continue;
      }
      if (request.shared > 0) ask.ids = Shared(ids_, request, &Prompts::Ids);
      const std::vector<int32_t> ids = Ids(own);
      ask.ids.insert(ask.ids.end(), ids.begin(), ids.end());
    }
    return asks;
  }

 private:
  // What the requests of a group begin with, in all runs.
  template <typename Prefix>
  const Prefix& Shared(std::map<std::pair<int, int>, Prefix>& prefixes, const BenchRequest& request,
                       Prefix (Prompts::*draw)(int)) {
    const auto [found, fresh] = prefixes.try_emplace({request.group, request.shared});
    if (fresh) found->second = (this->*draw)(request.shared);
    return found->second;
  }
  std::vector<int32_t> Ids(int count) {
    std::vector<int32_t> ids(count);
    for (int32_t& id : ids) id = static_cast<int32_t>(kFirstOrdinaryId + random_() % (vocab_ - kFirstOrdinaryId));
    return ids;
  }
  std::string Words(int count) {
    std::string text;
    for (int i = 0; i < count; ++i) absl::StrAppend(&text, i > 0 ? " " : "", kWords[random_() % std::size(kWords)]);
    return text;
  }

  const int vocab_;
  std::mt19937 random_{1};
  std::map<std::pair<int, int>, std::vector<int32_t>> ids_;
  std::map<std::pair<int, int>, std::string> words_;
};

class ServedDriver {
 public:
  ServedDriver(const ServeBenchOptions& options, BenchProgress& progress, const base::Clock& clock)
      : options_(options), progress_(progress), clock_(clock), prompts_(options.vocab) {}

  // So that no measured run has to.
  absl::Status Connect() {
    const bool http = absl::StrContains(options_.target.server, "://");
    for (int i = 0; i < options_.threads; ++i) {
      BERTH_ASSIGN_OR_RETURN(callers_.emplace_back(), http ? MakeHttpCaller(options_.target) : MakeGrpcCaller(options_.target));
    }
    return absl::OkStatus();
  }

  // As EngineDriver::Run.
  absl::StatusOr<RunTimes> Measure(const std::vector<BenchRequest>& requests, int in_flight) {
    Run run{.requests = requests, .asks = prompts_.Of(requests), .clock = clock_};
    for (size_t i = 0; i < requests.size(); ++i) {
      if (!requests[i].follows) run.begins.push_back(i);
    }
    RunTimes times;
    times.requests.resize(requests.size());
    std::vector<std::unique_ptr<StreamReader>> readers;
    for (const auto& caller : callers_) readers.push_back(std::make_unique<StreamReader>(run, *caller, times, progress_));
    const size_t streams = in_flight > 0 ? in_flight : run.begins.size(), count = readers.size();
    for (size_t i = 0; i < count; ++i) readers[i]->Begin(streams / count + (i < streams % count ? 1 : 0));
    absl::Status ended;
    for (const auto& reader : readers) ended.Update(reader->Wait());
    BERTH_RETURN_IF_ERROR(ended);
    for (const auto& reader : readers) Merge(reader->times, times);
    std::sort(times.tokens.begin(), times.tokens.end());
    BERTH_RETURN_IF_ERROR(CheckOutputs(requests, times));
    return times;
  }

 private:
  static void Merge(const RunTimes& part, RunTimes& times) {
    times.gaps.insert(times.gaps.end(), part.gaps.begin(), part.gaps.end());
    times.tokens.insert(times.tokens.end(), part.tokens.begin(), part.tokens.end());
    times.end = std::max(times.end, part.end);
  }

  const ServeBenchOptions& options_;
  BenchProgress& progress_;
  const base::Clock& clock_;
  Prompts prompts_;
  std::vector<std::unique_ptr<BenchCaller>> callers_;
};

std::vector<BenchRequest> WarmUp(const BenchLoad& load) {
  std::vector<BenchRequest> requests = load.requests;
  requests.resize(std::min(requests.size(), kWarmUp));
  for (BenchRequest& request : requests) request.arrival = 0;
  return requests;
}

// Of all runs.
size_t RequestCount(const ServeBenchOptions& options) {
  size_t count = 0;
  for (const BenchLoad& load : options.loads) count += WarmUp(load).size() + load.requests.size() * options.repeats;
  return count;
}

}  // namespace

absl::Status ServeBenchOptions::Validate() const {
  if (repeats < 1) return absl::InvalidArgumentError(absl::StrCat("repeats ", repeats, ", want at least 1"));
  if (threads < 1) return absl::InvalidArgumentError(absl::StrCat("threads ", threads, ", want at least 1"));
  if (vocab <= kFirstOrdinaryId) return absl::InvalidArgumentError(absl::StrCat("vocab ", vocab, ", want at least 4"));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<LoadRow>> RunServeBench(const ServeBenchOptions& options,
                                                   const std::function<void(const LoadRow&)>& on_row,
                                                   const base::Clock& clock) {
  BERTH_RETURN_IF_ERROR(options.Validate());
  BenchProgress progress(RequestCount(options));
  ServedDriver driver(options, progress, clock);
  BERTH_RETURN_IF_ERROR(driver.Connect());
  std::vector<LoadRow> rows;
  for (const BenchLoad& load : options.loads) {
    BERTH_RETURN_IF_ERROR(driver.Measure(WarmUp(load), load.in_flight).status());
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
