#include "clients/cli/bench_shares.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "clients/cli/bench_plot.h"
#include "clients/cli/json_file.h"

namespace berth::cli {
namespace {

using Json = nlohmann::ordered_json;

absl::StatusOr<Json> ReadObject(const std::string& path) {
  BERTH_ASSIGN_OR_RETURN(Json json, ReadJsonFile(path));
  if (!json.is_object()) return absl::InvalidArgumentError(absl::StrCat(path, ": no JSON object"));
  return json;
}

// Of a load in the table of peers: a time or a rate, its floor, and every engine's.
absl::Status AddPeers(const std::string& path, const Json& load, ShareRow& row) {
  const auto number = [&](const char* name) {
    return load.contains(name) && load[name].is_number() ? load[name].get<double>() : 0;
  };
  const double floor = number("floor");
  const std::string unit = load.is_object() ? load.value("unit", "") : "";
  if (floor <= 0 || (unit != "ms" && unit != "tok/s")) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", row.name, " has no floor in ms or tok/s: ", load.dump()));
  }
  for (const auto& [engine, value] : load.items()) {
    if (engine == "unit" || engine == "floor") continue;
    if (!value.is_number() || value.get<double>() <= 0) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": ", row.name, ", ", engine, " is no figure: ", value.dump()));
    }
    row.shares.emplace_back(engine, unit == "ms" ? floor / value.get<double>() : value.get<double>() / floor);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ShareTable> ReadShares(const std::string& report, const std::string& peers) {
  BERTH_ASSIGN_OR_RETURN(const Json measured, ReadObject(report));
  BERTH_ASSIGN_OR_RETURN(const Json others, ReadObject(peers));
  if (!measured.contains("rows") || !measured["rows"].is_array() || !measured.contains("model") ||
      !measured["model"].is_string()) {
    return absl::InvalidArgumentError(absl::StrCat(report, ": no report of loads"));
  }
  ShareTable table{.model = measured["model"].get<std::string>()};
  for (const Json& load : measured["rows"]) {
    const auto share = Json::json_pointer("/floor/share"), name = Json::json_pointer("/name");
    if (!load.is_object() || !load.contains(share) || !load[share].is_number()) continue;
    if (!load.contains(name) || !load[name].is_string()) {
      return absl::InvalidArgumentError(absl::StrCat(report, ": a load without a name"));
    }
    ShareRow row{.name = load[name].get<std::string>()};
    row.shares.emplace_back("Berth", load[share].get<double>());
    const auto peer = Json::json_pointer(absl::StrCat("/", table.model)) / row.name;
    if (others.contains(peer)) BERTH_RETURN_IF_ERROR(AddPeers(peers, others[peer], row));
    table.rows.push_back(std::move(row));
  }
  if (table.rows.empty()) return absl::InvalidArgumentError(absl::StrCat(report, ": no load with a floor"));
  return table;
}

std::string SharesSvg(const std::vector<ShareTable>& tables) {
  constexpr int kWidth = 520, kLeft = 150, kRight = 60, kTop = 56, kBar = 9, kGap = 10, kBottom = 24;
  constexpr const char* kColours[] = {"#1b6ec2", "#b3541e", "#7a8b3a", "#6b4c9a"};
  std::string body;
  int height = 0;
  for (size_t t = 0; t < tables.size(); ++t) {
    const int offset = static_cast<int>(t) * kWidth;
    int y = kTop;
    AppendText(body, offset + kWidth / 2, 18, "middle", absl::StrCat(tables[t].model, ": % of the device's floor"));
    std::vector<std::string> engines;
    for (const ShareRow& row : tables[t].rows) {
      AppendText(body, offset + kLeft - 6, y + kBar * row.shares.size() / 2.0 + 4, "end", row.name);
      for (const auto& [engine, share] : row.shares) {
        const size_t known = std::find(engines.begin(), engines.end(), engine) - engines.begin();
        if (known == engines.size()) engines.push_back(engine);
        const double width = std::min(share, 1.0) * (kWidth - kLeft - kRight);
        absl::StrAppendFormat(&body, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", offset + kLeft, y,
                              width, kBar - 1, kColours[known % std::size(kColours)]);
        AppendText(body, offset + kLeft + width + 4, y + kBar - 1, "start", absl::StrFormat("%.0f", 100 * share));
        y += kBar;
      }
      y += kGap;
    }
    for (size_t e = 0; e < engines.size(); ++e) {
      absl::StrAppendFormat(&body, "<g fill=\"%s\">", kColours[e % std::size(kColours)]);
      AppendText(body, offset + kLeft + 110 * static_cast<int>(e), 40, "start", engines[e]);
      body += "</g>\n";
    }
    height = std::max(height, y + kBottom);
  }
  return SvgDocument(kWidth * static_cast<int>(tables.size()), height, body);
}

}  // namespace berth::cli
