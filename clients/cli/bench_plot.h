#pragma once

#include <string>
#include <vector>

#include "clients/cli/bench_report.h"

namespace berth::cli {

// An SVG document: time to first token and time between tokens (p50 and p99) against output tokens per second, a point for each
// row that has both, joined in the order of rows.
std::string PlotSvg(const std::vector<LoadRow>& rows);

}  // namespace berth::cli
