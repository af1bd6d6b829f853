#include "clients/cli/bench_plot.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace berth::cli {
namespace {

constexpr int kWidth = 460, kHeight = 320, kLeft = 64, kBottom = 44, kTop = 36, kRight = 14;
constexpr int kTicks = 5;

struct Point {
  double x, y;
  std::string name;
};

// The points of one figure against the output rate.
std::vector<Point> PointsOf(const std::vector<LoadRow>& rows, const std::string& figure) {
  std::vector<Point> points;
  for (const LoadRow& row : rows) {
    const Figure *x = FindFigure(row.figures, "output_rate"), *y = FindFigure(row.figures, figure);
    if (x != nullptr && y != nullptr) points.push_back({x->median, y->median, row.name});
  }
  return points;
}

// 1, 2 or 5 times a power of ten, so that kTicks of them reach `largest`.
double TickOf(double largest) {
  const double least = std::max(largest, 1e-9) / kTicks, power = std::pow(10, std::floor(std::log10(least)));
  for (const double step : {1, 2, 5}) {
    if (step * power >= least) return step * power;
  }
  return 10 * power;
}

// One diagram with its own axes, its left edge at `offset`.
class Panel {
 public:
  Panel(int offset, const std::string& title, const std::vector<LoadRow>& rows, const std::string& figure)
      : offset_(offset), median_(PointsOf(rows, figure + "_p50")), tail_(PointsOf(rows, figure + "_p99")) {
    for (const auto* points : {&median_, &tail_}) {
      for (const Point& point : *points) {
        x_tick_ = std::max(x_tick_, point.x);
        y_tick_ = std::max(y_tick_, point.y);
      }
    }
    x_tick_ = TickOf(x_tick_);
    y_tick_ = TickOf(y_tick_);
    DrawAxes(title);
    DrawLine(median_, "#1b6ec2", "p50", 0);
    DrawLine(tail_, "#b3541e", "p99", 1);
  }
  const std::string& svg() const { return svg_; }

 private:
  double X(double value) const { return offset_ + kLeft + value / (kTicks * x_tick_) * (kWidth - kLeft - kRight); }
  double Y(double value) const { return kHeight - kBottom - value / (kTicks * y_tick_) * (kHeight - kBottom - kTop); }

  void Text(double x, double y, const char* anchor, const std::string& text) { AppendText(svg_, x, y, anchor, text); }

  void DrawAxes(const std::string& title) {
    const double right = X(kTicks * x_tick_), top = Y(kTicks * y_tick_);
    for (int i = 0; i <= kTicks; ++i) {
      const double x = X(i * x_tick_), y = Y(i * y_tick_);
      absl::StrAppendFormat(&svg_, "<path class=\"grid\" d=\"M%.1f %.1fV%.1fM%.1f %.1fH%.1f\"/>\n", x, Y(0), top, X(0), y,
                            right);
      Text(x, Y(0) + 16, "middle", absl::StrFormat("%g", i * x_tick_));
      Text(X(0) - 6, y + 4, "end", absl::StrFormat("%g", i * y_tick_));
    }
    Text((X(0) + right) / 2, kHeight - 8, "middle", "output tok/s");
    Text((X(0) + right) / 2, 18, "middle", title);
  }

  void DrawLine(const std::vector<Point>& points, const std::string& colour, const std::string& name, int row) {
    std::string path;
    for (const Point& point : points)
      absl::StrAppendFormat(&path, "%s%.1f %.1f", path.empty() ? "M" : "L", X(point.x), Y(point.y));
    absl::StrAppendFormat(&svg_, "<g fill=\"%s\"><path fill=\"none\" stroke=\"%s\" d=\"%s\"/>\n", colour, colour, path);
    for (const Point& point : points) {
      absl::StrAppendFormat(&svg_,
                            "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\"><title>%s: %s %.4g ms at %.4g tok/s</title></circle>\n",
                            X(point.x), Y(point.y), point.name, name, point.y, point.x);
    }
    Text(X(0) + 8, kTop + 14 + 14 * row, "start", name);
    svg_ += "</g>\n";
  }

  const int offset_;
  const std::vector<Point> median_, tail_;
  double x_tick_ = 0, y_tick_ = 0;
  std::string svg_;
};

}  // namespace

std::string SvgDocument(int width, int height, const std::string& body) {
  return absl::StrCat("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", width, "\" height=\"", height,
                      "\" font-family=\"sans-serif\" font-size=\"11\">\n"
                      "<style>.grid{stroke:#ddd}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
                      body, "</svg>\n");
}

void AppendText(std::string& svg, double x, double y, const char* anchor, const std::string& text) {
  absl::StrAppendFormat(&svg, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n", x, y, anchor, text);
}

std::string PlotSvg(const std::vector<LoadRow>& rows) {
  return SvgDocument(
      2 * kWidth, kHeight,
      Panel(0, "Time to first token, ms", rows, "ttft").svg() + Panel(kWidth, "Time between tokens, ms", rows, "itl").svg());
}

}  // namespace berth::cli
