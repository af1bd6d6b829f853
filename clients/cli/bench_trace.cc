#include "clients/cli/bench_trace.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "clients/cli/bench_data.h"
#include "clients/cli/json_file.h"

namespace berth::cli {
namespace {

using Json = nlohmann::ordered_json;

// [prompt, output], and seconds that are not before `earlier`.
bool IsRequest(const Json& entry, double earlier) {
  if (!entry.is_array() || entry.size() < 2 || entry.size() > 3) return false;
  if (!entry[0].is_number_integer() || !entry[1].is_number_integer()) return false;
  return entry.size() == 2 || (entry[2].is_number() && entry[2].get<double>() >= std::max(earlier, 0.0));
}

absl::StatusOr<Json> ReadList(const std::string& path, const char* built_in) {
  if (path == kBuiltIn) return Json::parse(built_in);
  BERTH_ASSIGN_OR_RETURN(Json list, ReadJsonFile(path));
  if (!list.is_array()) return absl::InvalidArgumentError(path + " is no JSON list");
  return list;
}

}  // namespace

absl::StatusOr<std::vector<TraceRequest>> ReadTrace(const std::string& path, int requests, int shorten) {
  if (shorten < 1) return absl::InvalidArgumentError(absl::StrCat("shorten ", shorten, ", want at least 1"));
  BERTH_ASSIGN_OR_RETURN(const Json entries, ReadList(path, kTraceJson));
  std::vector<TraceRequest> trace;
  for (const auto& entry : entries) {
    if (static_cast<int>(trace.size()) == requests) break;
    if (!IsRequest(entry, trace.empty() ? 0 : trace.back().seconds)) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": entry ", trace.size(), " is no pair of lengths with a later time: ", entry.dump()));
    }
    trace.push_back({.prompt = std::max(1, entry[0].get<int>() / shorten),
                     .output = std::max(1, entry[1].get<int>() / shorten),
                     .seconds = entry.size() == 3 ? entry[2].get<double>() : -1});
  }
  return trace;
}

absl::StatusOr<std::vector<double>> ReadArrivals(const std::string& path) {
  BERTH_ASSIGN_OR_RETURN(const Json list, ReadList(path, kArrivalsJson));
  std::vector<double> times;
  for (const auto& time : list) {
    if (!time.is_number() || time.get<double>() < (times.empty() ? 0 : times.back())) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": entry ", times.size(), " is no later time: ", time.dump()));
    }
    times.push_back(time.get<double>());
  }
  return times;
}

}  // namespace berth::cli
