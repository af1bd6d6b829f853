#include "clients/cli/bench_loads.h"

#include <algorithm>
#include <climits>
#include <cstdio>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"

namespace berth::cli {
namespace {

using Kind = BenchLoad::Kind;

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

absl::StatusOr<BenchLoad> Traced(Kind kind, int count, const TraceFiles& files) {
  if (count > static_cast<int>(files.trace.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("the trace has ", files.trace.size(), " requests, ", count, " are asked for"));
  }
  BenchLoad load{.kind = kind};
  for (int i = 0; i < count; ++i) {
    load.requests.push_back({.prompt = files.trace[i].prompt, .output = files.trace[i].output});
  }
  return load;
}

absl::StatusOr<BenchLoad> Open(int count, double rate, const TraceFiles& files) {
  if (count > static_cast<int>(files.arrivals.size())) {
    return absl::InvalidArgumentError(
        absl::StrCat("there are ", files.arrivals.size(), " arrivals, ", count, " are asked for"));
  }
  BERTH_ASSIGN_OR_RETURN(BenchLoad load, Traced(Kind::kOpen, count, files));
  for (int i = 0; i < count; ++i) load.requests[i].arrival = files.arrivals[i] / rate;
  load.name = absl::StrCat(count, " at ", rate, "/s");
  return load;
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
        BERTH_ASSIGN_OR_RETURN(BenchLoad load, Traced(kind, count, files));
        load.name = absl::StrCat("trace ", count, " @ ", in_flight);
        load.in_flight = in_flight;
        return load;
      }
      break;
    case Kind::kOpen:
      if (Scan(text, "%d@%lf%n", &count, &rate)) return Open(count, rate, files);
      break;
  }
  return absl::InvalidArgumentError(absl::StrCat("\"", std::string(1, letter), ":", text, "\" is no load"));
}

}  // namespace

absl::StatusOr<std::vector<BenchLoad>> ParseLoads(const std::string& list, const TraceFiles& files) {
  std::vector<BenchLoad> loads;
  for (const std::string& entry : Split(list)) {
    const auto* const usual = std::find_if(std::begin(kUsual), std::end(kUsual),
                                           [&](const auto& row) { return !entry.empty() && row.first == entry[0]; });
    const bool bare = entry.size() == 1;
    if (usual == std::end(kUsual) || !(bare || entry[1] == ':')) {
      return absl::InvalidArgumentError(absl::StrCat("\"", entry, "\" is no load"));
    }
    for (const std::string& row : Split(bare ? usual->second : entry.substr(2))) {
      BERTH_ASSIGN_OR_RETURN(BenchLoad load, ParseLoad(entry[0], row, files));
      load.name = absl::StrCat(std::string(1, entry[0]), " ", load.name);
      loads.push_back(std::move(load));
    }
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
