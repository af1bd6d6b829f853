#include "clients/cli/bench_report.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

namespace berth::cli {
namespace {

using Kind = BenchLoad::Kind;
using Json = nlohmann::ordered_json;

// The figures that a table of this load shows, in its order.
std::vector<std::string> Shown(Kind kind) {
  switch (kind) {
    case Kind::kOne:
      return {"decode_rate", "tpot_mean", "ttft_mean", "host_step"};
    case Kind::kBatch:
      return {"output_rate", "decode_rate", "ttft_mean", "ttft_p50", "ttft_p99", "tpot_mean", "host_step"};
    case Kind::kTrace:
      return {"request_rate", "goodput",  "output_rate", "total_rate", "cached",  "ttft_mean", "ttft_p50", "ttft_p99",
              "tpot_mean",    "tpot_p50", "tpot_p99",    "itl_mean",   "itl_p50", "itl_p99",   "host_step"};
    case Kind::kOpen:
      return {"request_rate", "goodput",   "cached",   "ttft_mean", "ttft_p50",
              "ttft_p99",     "tpot_mean", "tpot_p50", "tpot_p99",  "itl_p99"};
    case Kind::kFirstToken:
      return {"ttft_mean"};
    case Kind::kDecode:
      return {"decode_rate", "tpot_mean", "host_step"};
  }
  return {};
}

// The floor of the figure that the load is about, as that figure's name, its unit and the floor's value.
struct Bound {
  std::string figure;
  double value = 0;
  bool is_time = false;
};
Bound BoundOf(Kind kind, const Floor& floor) {
  if (kind == Kind::kFirstToken) return {"ttft_mean", floor.first_ms, true};
  if (kind == Kind::kBatch || kind == Kind::kTrace) return {"output_rate", floor.serial, false};
  return {"tpot_mean", floor.token_ms, true};
}

// What part of the floor's speed was reached; 0 when the row has no such figure.
double ShareOf(const LoadRow& row, const Bound& bound) {
  const Figure* figure = FindFigure(row.figures, bound.figure);
  if (figure == nullptr) return 0;
  return bound.is_time ? bound.value / figure->median : figure->median / bound.value;
}

Json FigureJson(const Figure& figure) {
  return {{"unit", figure.unit}, {"median", figure.median}, {"low", figure.low}, {"high", figure.high}};
}

Json RowJson(const LoadRow& row) {
  Json json = {{"load", std::string(1, static_cast<char>(row.kind))}, {"name", row.name}, {"figures", Json::object()}};
  for (const Figure& figure : row.figures) json["figures"][figure.name] = FigureJson(figure);
  if (row.floor.has_value()) {
    const Floor& floor = *row.floor;
    json["floor"] = {{"step_bytes", floor.step_bytes},
                     {"step_flops", floor.step_flops},
                     {"token_ms", floor.token_ms},
                     {"first_ms", floor.first_ms},
                     {"serial", floor.serial},
                     {"overlapped", floor.overlapped},
                     {"share", ShareOf(row, BoundOf(row.kind, floor))}};
  }
  for (const KernelTime& kernel : row.kernels) {
    json["kernels"].push_back({{"name", kernel.name}, {"calls", kernel.calls}, {"seconds", kernel.seconds}});
  }
  return json;
}

}  // namespace

std::string FormatRow(const LoadRow& row) {
  std::string line = absl::StrFormat("%-22s", row.name);
  for (const std::string& name : Shown(row.kind)) {
    const Figure* figure = FindFigure(row.figures, name);
    if (figure == nullptr) continue;
    absl::StrAppendFormat(&line, "  %s %.4g [%.4g-%.4g] %s", name, figure->median, figure->low, figure->high, figure->unit);
  }
  if (!row.floor.has_value()) return line;
  const Floor& floor = *row.floor;
  const Bound bound = BoundOf(row.kind, floor);
  if (floor.step_bytes > 0) {
    absl::StrAppendFormat(&line, "  | step %.3g GB, %.3g GFLOP", floor.step_bytes / 1e9, floor.step_flops / 1e9);
  }
  absl::StrAppendFormat(&line, "  | floor of %s %.4g", bound.figure, bound.value);
  if (row.kind == Kind::kTrace) absl::StrAppendFormat(&line, " (overlapped %.4g)", floor.overlapped);
  absl::StrAppendFormat(&line, ", reached %.1f %%", 100 * ShareOf(row, bound));
  return line;
}

std::string ToJson(const EngineBenchReport& report) {
  Json json = {{"model", report.model},
               {"device", report.device},
               {"dtype", report.dtype},
               {"threads", report.threads},
               {"repeats", report.repeats},
               {"step_tokens", report.step_tokens},
               {"ready_seconds", report.ready_seconds},
               {"context_seconds", report.context_seconds},
               {"load_seconds", report.load_seconds},
               {"figures", Json::object()}};
  for (const Figure& figure : report.figures) json["figures"][figure.name] = FigureJson(figure);
  if (!report.rows.empty()) json["rows"] = Json::array();
  for (const LoadRow& row : report.rows) json["rows"].push_back(RowJson(row));
  return json.dump(2);
}

}  // namespace berth::cli
