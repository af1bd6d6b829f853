#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace berth::cli {

// What part of the floor's speed each engine reached under one load.
struct ShareRow {
  std::string name;
  std::vector<std::pair<std::string, double>> shares;  // by engine, Berth first
};

struct ShareTable {
  std::string model;
  std::vector<ShareRow> rows;
};

// The loads of a report of `berth bench engine` (JSON) that have a floor, beside the engines of `peers`
// (tests/bench/peers.json), each by the floor of the device that it ran on. NOT_FOUND names a file; INVALID_ARGUMENT what of it
// is no report or no table of peers.
absl::StatusOr<ShareTable> ReadShares(const std::string& report, const std::string& peers);

// An SVG document with a bar for each engine and row, a panel for each table.
std::string SharesSvg(const std::vector<ShareTable>& tables);

}  // namespace berth::cli
