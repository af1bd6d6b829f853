#include "clients/cli/bench_metrics.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <numeric>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

namespace berth::cli {
namespace {

constexpr std::pair<const char*, double> kQuantiles[] = {{"_p50", 0.5}, {"_p75", 0.75}, {"_p95", 0.95}, {"_p99", 0.99}};

double Mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

// Between the two nearest values, as numpy's percentile.
double Quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const double at = share * static_cast<double>(values.size() - 1);
  const size_t below = static_cast<size_t>(at), above = std::min(below + 1, values.size() - 1);
  return values[below] + (at - static_cast<double>(below)) * (values[above] - values[below]);
}

std::vector<double> FirstTokenTimes(const RunTimes& times) {
  std::vector<double> out;
  for (const RequestTimes& request : times.requests) out.push_back(1e3 * (request.first - request.added));
  return out;
}

std::vector<double> Latencies(const RunTimes& times) {
  std::vector<double> out;
  for (const RequestTimes& request : times.requests) out.push_back(1e3 * (request.last - request.added));
  return out;
}

std::vector<double> TimesPerToken(const RunTimes& times) {
  std::vector<double> out;
  for (const RequestTimes& request : times.requests) {
    if (request.tokens > 1) out.push_back(1e3 * (request.last - request.first) / (request.tokens - 1));
  }
  return out;
}

double Goodput(const RunTimes& times, const Objective& objective) {
  const auto good = std::count_if(times.requests.begin(), times.requests.end(), [&](const RequestTimes& request) {
    const double ttft = 1e3 * (request.first - request.added);
    const double tpot = request.tokens > 1 ? 1e3 * (request.last - request.first) / (request.tokens - 1) : 0;
    return (objective.ttft == 0 || ttft <= objective.ttft) && (objective.tpot == 0 || tpot <= objective.tpot);
  });
  return static_cast<double>(good) / times.end;
}

std::vector<double> Gaps(const RunTimes& times) {
  std::vector<double> out;
  for (const double gap : times.gaps) out.push_back(1e3 * gap);
  return out;
}

int64_t OutputTokens(const RunTimes& times) {
  int64_t tokens = 0;
  for (const RequestTimes& request : times.requests) tokens += request.tokens;
  return tokens;
}

int64_t PromptTokens(const std::vector<BenchRequest>& requests, const RunTimes& times) {
  int64_t tokens = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    const int counted = times.requests[i].prompt;
    tokens += counted > 0 ? counted : requests[i].prompt;
  }
  return tokens;
}

int64_t CachedTokens(const RunTimes& times) {
  int64_t tokens = 0;
  for (const RequestTimes& request : times.requests) tokens += request.cached;
  return tokens;
}

// 0 when no token came after the last request's first one.
double DecodeRateOfAll(const RunTimes& times) {
  double first = 0;
  for (const RequestTimes& request : times.requests) first = std::max(first, request.first);
  int64_t tokens = 0;
  for (const auto& [time, count] : times.tokens) tokens += time > first ? count : 0;
  return tokens == 0 ? 0 : static_cast<double>(tokens) / (times.end - first);
}

}  // namespace

Figure MakeFigure(const std::string& name, const std::string& unit, std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {.name = name, .unit = unit, .median = Quantile(values, 0.5), .low = values.front(), .high = values.back()};
}

const Figure* FindFigure(const std::vector<Figure>& figures, const std::string& name) {
  const auto found = std::find_if(figures.begin(), figures.end(), [&](const Figure& figure) { return figure.name == name; });
  return found == figures.end() ? nullptr : &*found;
}

absl::Status CheckOutputs(const std::vector<BenchRequest>& requests, const RunTimes& times) {
  for (size_t i = 0; i < requests.size(); ++i) {
    if (times.requests[i].tokens == requests[i].output) continue;
    return absl::InternalError(
        absl::StrCat("request ", i, " has ", times.requests[i].tokens, " tokens of output, want ", requests[i].output));
  }
  return absl::OkStatus();
}

double DecodeRate(const RunTimes& times) {
  const auto [first, tokens] = times.tokens.front();
  return static_cast<double>(OutputTokens(times) - tokens) / (times.end - first);
}

std::vector<Figure> LoadFigures(const std::vector<BenchRequest>& requests, const std::vector<RunTimes>& runs,
                                const Objective& objective) {
  std::vector<Figure> figures;
  using Value = std::function<std::optional<double>(const RunTimes&)>;
  const auto add = [&](const std::string& name, const std::string& unit, const Value& value_of) {
    std::vector<double> values;
    for (const RunTimes& run : runs) {
      if (const std::optional<double> value = value_of(run)) values.push_back(*value);
    }
    if (!values.empty()) figures.push_back(MakeFigure(name, unit, std::move(values)));
  };
  const auto positive = [](double value) { return value > 0 ? std::optional(value) : std::nullopt; };
  const auto add_times = [&](const std::string& name, const std::function<std::vector<double>(const RunTimes&)>& times_of) {
    const auto add_one = [&](const char* suffix, const std::function<double(const std::vector<double>&)>& value_of) {
      add(name + suffix, "ms", [&](const RunTimes& run) {
        const std::vector<double> times = times_of(run);
        return times.empty() ? std::nullopt : std::optional(value_of(times));
      });
    };
    add_one("_mean", Mean);
    for (const auto& [quantile, share] : kQuantiles) {
      add_one(quantile, [share = share](const std::vector<double>& times) { return Quantile(times, share); });
    }
  };
  add("request_rate", "1/s", [](const RunTimes& run) { return static_cast<double>(run.requests.size()) / run.end; });
  if (objective.any()) add("goodput", "1/s", [&](const RunTimes& run) { return Goodput(run, objective); });
  add("output_rate", "tok/s", [](const RunTimes& run) { return static_cast<double>(OutputTokens(run)) / run.end; });
  add("total_rate", "tok/s",
      [&](const RunTimes& run) { return static_cast<double>(PromptTokens(requests, run) + OutputTokens(run)) / run.end; });
  add("decode_rate", "tok/s", [&](const RunTimes& run) { return positive(DecodeRateOfAll(run)); });
  add("cached", "of prompts", [&](const RunTimes& run) {
    return positive(static_cast<double>(CachedTokens(run)) / static_cast<double>(PromptTokens(requests, run)));
  });
  add_times("latency", Latencies);
  add_times("ttft", FirstTokenTimes);
  add_times("tpot", TimesPerToken);
  add_times("itl", Gaps);
  add("host_step", "us", [](const RunTimes& run) {
    return run.host_steps.empty() ? std::nullopt : std::optional(1e6 * Quantile(run.host_steps, 0.5));
  });
  return figures;
}

}  // namespace berth::cli
