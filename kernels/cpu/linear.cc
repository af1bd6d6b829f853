#include "kernels/cpu/linear.h"

#include <algorithm>
#include <vector>

#include "kernels/cpu/panel.h"

namespace berth::kernels::cpu {
namespace {

constexpr int kPanelRows = 48;  // what one task takes

// x as Panel wants it: packed, or one padded row.
const float* Prepare(Context& context, const Tensor& x, int64_t padded_k) {
  const int64_t rows = x.dim(0), k = x.dim(1);
  if (rows == 1 && k == padded_k) return x.data<float>();
  float* out = context.padded.Get(rows * padded_k);
  if (rows == 1) {
    std::fill(std::copy_n(x.data<float>(), k, out), out + padded_k, 0.f);
  } else {
    PackRows(x, padded_k, out);
  }
  return out;
}

}  // namespace

void Linear(Context& context, const Tensor& x, const LinearWeight& weight, const Tensor& bias, const Tensor& out) {
  const int64_t padded_k = (weight.k + kLanes - 1) / kLanes * kLanes;
  const float* input = Prepare(context, x, padded_k);
  std::vector<Panel> panels;
  panels.reserve(weight.n() / kPanelRows + weight.segments.size());
  int64_t n = 0;
  for (const LinearWeight::Segment& segment : weight.segments) {
    const size_t row_bytes = RowBytes(segment.dtype, weight.k);
    for (int64_t row = 0; row < segment.rows; row += kPanelRows) {
      panels.push_back({.x = input,
                        .x_rows = x.dim(0),
                        .k = weight.k,
                        .padded_k = padded_k,
                        .dtype = segment.dtype,
                        .weight = segment.data + row * row_bytes,
                        .rows = static_cast<int>(std::min<int64_t>(kPanelRows, segment.rows - row)),
                        .bias = bias.empty() ? nullptr : bias.data<float>() + n + row,
                        .out = out.data<float>() + n + row,
                        .out_stride = out.stride(0)});
    }
    n += segment.rows;
  }
  context.pool.Run(static_cast<int>(panels.size()), [&](int task, int thread) {
    MultiplyPanel(panels[task], context.thread[thread].Get(PanelScratch(padded_k)));
  });
}

}  // namespace berth::kernels::cpu
