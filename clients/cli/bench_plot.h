#pragma once

#include <string>
#include <vector>

#include "clients/cli/bench_report.h"

namespace berth::cli {

// An SVG document: time to first token and time between tokens (p50 and p99) against output tokens per second, a point for each
// row that has both, joined in the order of rows.
std::string PlotSvg(const std::vector<LoadRow>& rows);

// Of what charts are made: a document around `body`, and text in it.
std::string SvgDocument(int width, int height, const std::string& body);
void AppendText(std::string& svg, double x, double y, const char* anchor, const std::string& text);

}  // namespace berth::cli
