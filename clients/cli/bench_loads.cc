#include "clients/cli/bench_loads.h"

#include <algorithm>
#include <climits>
#include <cstdio>
#include <iterator>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "clients/cli/parse_line.h"

namespace berth::cli {
namespace {

using Kind = BenchLoad::Kind;

constexpr char kGeneration[] = "generation";
constexpr int kGenerationStreams[] = {1, 16, 32, 64};
constexpr std::pair<int, int> kGenerationTokens[] = {{1, 128}, {128, 128}, {128, 2048}, {2048, 128}, {2048, 2048}};

constexpr std::pair<char, const char*> kUsual[] = {
    {'A', "32/128,1024/512"},
    {'B', "8x512/256,64x512/256,256x512/256"},
    {'C', "1000@256,2000@1024"},
    {'P', "400@16,400@32"},
    {'D', "128,512,1024,2048,4096"},
    {'E', "8192"},
    {'G', "1x128/128,2x128/128,4x128/128,8x128/128,16x128/128,32x128/128,64x128/128,128x128/128,256x128/128,512x128/128"},
};

// Whether all of `text` reads as `format`, which ends in %n; the numbers are positive.
template <typename... Numbers>
bool Scan(const std::string& text, const char* format, Numbers*... numbers) {
  int read = -1;
  std::sscanf(text.c_str(), format, numbers..., &read);
  return read == static_cast<int>(text.size()) && ((*numbers > 0) && ...);
}

std::vector<std::string> Split(const std::string& list) { return absl::StrSplit(list, ','); }

BenchLoad Batch(Kind kind, int count, int prompt, int output) {
  return {.kind = kind,
          .name = absl::StrCat(count, " x ", prompt, "/", output),
          .requests = std::vector<BenchRequest>(count, {.prompt = prompt, .output = output})};
}

absl::StatusOr<BenchLoad> Traced(int count, const std::vector<TraceRequest>& trace) {
  if (count > static_cast<int>(trace.size())) {
    return absl::InvalidArgumentError(absl::StrCat("the trace has ", trace.size(), " requests, ", count, " are asked for"));
  }
  BenchLoad load;
  for (int i = 0; i < count; ++i) load.requests.push_back({.prompt = trace[i].prompt, .output = trace[i].output});
  return load;
}

// `arrivals`: of those that follow no other.
BenchLoad Arriving(BenchLoad load, double rate, const std::vector<double>& arrivals) {
  load.kind = Kind::kOpen;
  auto arrival = arrivals.begin();
  for (BenchRequest& request : load.requests) {
    if (!request.follows) request.arrival = *arrival++ / rate;
  }
  return load;
}

BenchLoad AtRate(BenchLoad load, double rate, const std::vector<double>& arrivals) {
  load.name = absl::StrCat(load.requests.size(), " at ", rate, "/s");
  return Arriving(std::move(load), rate, arrivals);
}

BenchLoad InFlight(BenchLoad load, int in_flight) {
  load.kind = Kind::kTrace;
  load.name = absl::StrCat(load.requests.size(), " @ ", in_flight);
  load.in_flight = in_flight;
  return load;
}

absl::StatusOr<BenchLoad> Open(int count, double rate, const TraceFiles& files) {
  if (count > static_cast<int>(files.arrivals.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("there are ", files.arrivals.size(), " arrivals, ", count, " are asked for"));
  }
  BERTH_ASSIGN_OR_RETURN(BenchLoad load, Traced(count, files.trace));
  return AtRate(std::move(load), rate, files.arrivals);
}

absl::StatusOr<BenchLoad> ParseLoad(char letter, const std::string& text, const TraceFiles& files) {
  int count = 0, prompt = 0, output = 0, in_flight = 0;
  double rate = 0;
  const Kind kind = letter == 'E' ? Kind::kFirstToken : static_cast<Kind>(letter);
  switch (kind) {
    case Kind::kOne:
      if (Scan(text, "%d/%d%n", &prompt, &output)) return Batch(kind, 1, prompt, output);
      break;
    case Kind::kBatch:
    case Kind::kDecode:
      if (Scan(text, "%dx%d/%d%n", &count, &prompt, &output)) return Batch(kind, count, prompt, output);
      break;
    case Kind::kFirstToken:
      if (Scan(text, "%d%n", &prompt)) return Batch(kind, 1, prompt, 1);
      break;
    case Kind::kTrace:
      if (Scan(text, "%d@%d%n", &count, &in_flight)) {
        BERTH_ASSIGN_OR_RETURN(BenchLoad load, Traced(count, files.trace));
        load = InFlight(std::move(load), in_flight);
        load.name = absl::StrCat("trace ", load.name);
        return load;
      }
      break;
    case Kind::kOpen:
      if (Scan(text, "%d@%lf%n", &count, &rate)) return Open(count, rate, files);
      break;
  }
  return WrongUsage(absl::StrCat("\"", std::string(1, letter), ":", text, "\" is no load"));
}

}  // namespace

bool HaveArrivals(const std::vector<BenchRequest>& requests) {
  return std::any_of(requests.begin(), requests.end(), [](const BenchRequest& request) { return request.arrival > 0; });
}

absl::StatusOr<std::vector<BenchLoad>> ParseLoads(const std::string& list, const TraceFiles& files) {
  std::vector<BenchLoad> loads;
  for (const std::string& entry : Split(list)) {
    if (entry == kGeneration) {
      for (const int streams : kGenerationStreams) {
        for (const auto& [prompt, output] : kGenerationTokens) loads.push_back(Batch(Kind::kBatch, streams, prompt, output));
      }
      continue;
    }
    const auto* const usual = std::find_if(std::begin(kUsual), std::end(kUsual),
                                           [&](const auto& row) { return !entry.empty() && row.first == entry[0]; });
    const bool bare = entry.size() == 1;
    if (usual == std::end(kUsual) || !(bare || entry[1] == ':')) {
      return WrongUsage(absl::StrCat("\"", entry, "\" is no load"));
    }
    for (const std::string& row : Split(bare ? usual->second : entry.substr(2))) {
      BERTH_ASSIGN_OR_RETURN(BenchLoad load, ParseLoad(entry[0], row, files));
      load.name = absl::StrCat(std::string(1, entry[0]), " ", load.name);
      loads.push_back(std::move(load));
    }
  }
  return loads;
}

namespace {

absl::Status Validate(const Sweep& sweep) {
  if (sweep.requests < 1) return WrongUsage(absl::StrCat(sweep.requests, " requests, want at least 1"));
  if (sweep.turns < 1) return WrongUsage(absl::StrCat(sweep.turns, " turns, want at least 1"));
  if (sweep.prefix < 0 || sweep.prefixes < 1) {
    return WrongUsage(absl::StrCat(sweep.prefixes, " prefixes of ", sweep.prefix, " tokens"));
  }
  for (const double rate : sweep.request_rates) {
    if (!(rate > 0)) return WrongUsage(absl::StrCat("a rate of ", rate, " requests a second"));
  }
  for (const int in_flight : sweep.concurrencies) {
    if (in_flight < 1) return WrongUsage(absl::StrCat(in_flight, " requests in flight"));
  }
  if (!(sweep.replay >= 0)) return WrongUsage(absl::StrCat("a replay ", sweep.replay, " times as fast"));
  const bool drawn = sweep.prompt == 0 && sweep.output == 0;
  if (drawn || (sweep.prompt >= 1 && sweep.output >= 1)) return absl::OkStatus();
  return WrongUsage(absl::StrCat("lengths ", sweep.prompt, "/", sweep.output, ", want at least 1 of each"));
}

absl::StatusOr<BenchLoad> RequestsOf(const Sweep& sweep, const std::vector<TraceRequest>& trace) {
  const int count = sweep.requests * sweep.turns;
  BenchLoad load{.requests = std::vector<BenchRequest>(count, {.prompt = sweep.prompt, .output = sweep.output})};
  if (sweep.prompt == 0) {
    BERTH_ASSIGN_OR_RETURN(load, Traced(count, trace));
  }
  for (int i = 0; i < count; ++i) {
    BenchRequest& request = load.requests[i];
    request.follows = i % sweep.turns > 0;
    request.conversation = sweep.turns > 1;
    request.shared = request.follows ? 0 : sweep.prefix;
    request.group = i / sweep.turns % sweep.prefixes;
    request.prompt += request.shared;
  }
  return load;
}

// When the conversations of a trace began.
absl::StatusOr<std::vector<double>> TimesOf(const Sweep& sweep, const std::vector<TraceRequest>& trace) {
  std::vector<double> times;
  for (int i = 0; i < sweep.requests * sweep.turns; i += sweep.turns) {
    if (i >= static_cast<int>(trace.size()) || trace[i].seconds < 0) {
      return absl::InvalidArgumentError(absl::StrCat("the trace does not say when its request ", i, " came"));
    }
    times.push_back(trace[i].seconds);
  }
  return times;
}

}  // namespace

absl::StatusOr<std::vector<BenchLoad>> SweepLoads(const Sweep& sweep, const std::vector<TraceRequest>& trace) {
  BERTH_RETURN_IF_ERROR(Validate(sweep));
  BERTH_ASSIGN_OR_RETURN(const BenchLoad all, RequestsOf(sweep, trace));
  std::mt19937_64 random(sweep.seed);
  std::exponential_distribution<double> gap(1);
  std::vector<double> arrivals = {gap(random)};
  while (static_cast<int>(arrivals.size()) < sweep.requests) arrivals.push_back(arrivals.back() + gap(random));
  std::vector<BenchLoad> loads;
  for (const double rate : sweep.request_rates) loads.push_back(AtRate(all, rate, arrivals));
  for (const int in_flight : sweep.concurrencies) loads.push_back(InFlight(all, in_flight));
  if (sweep.replay > 0) {
    BERTH_ASSIGN_OR_RETURN(const std::vector<double> times, TimesOf(sweep, trace));
    loads.push_back(Arriving(all, sweep.replay, times));
    loads.back().name = absl::StrCat(all.requests.size(), " replayed x ", sweep.replay);
  }
  return loads;
}

absl::StatusOr<TraceFiles> ReadTraceFiles(const std::string& list, const std::string& trace, const std::string& arrivals) {
  TraceFiles files;
  if (list.find_first_of("CP") == std::string::npos) return files;
  BERTH_ASSIGN_OR_RETURN(files.trace, ReadTrace(trace, INT_MAX, 1));
  BERTH_ASSIGN_OR_RETURN(files.arrivals, ReadArrivals(arrivals));
  return files;
}

}  // namespace berth::cli
