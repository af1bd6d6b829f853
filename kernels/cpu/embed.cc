#include <algorithm>

#include "base/check.h"
#include "kernels/cpu/dequantize.h"
#include "kernels/cpu/stages.h"

namespace berth::kernels::cpu {
namespace {

void LoadWeightRow(const LinearWeight& weight, int64_t row, float* out) {
  for (const LinearWeight::Segment& segment : weight.segments) {
    if (row < segment.rows)
      return DequantizeRow(segment.dtype, segment.data + row * RowBytes(segment.dtype, weight.k), out, weight.k);
    row -= segment.rows;
  }
}

}  // namespace

void Embed(Context& context, const EmbedArgs& args) {
  const int64_t vocab = args.table.n(), hidden = args.table.k;
  ForRows(context, args.token.dim(0), [&](int64_t r, int) {
    float* out = args.out.data<float>() + r * args.out.stride(0);
    int32_t token = args.token.data<int32_t>()[r * args.token.stride(0)];
    if (token == kNoToken) {
      std::fill_n(out, hidden, 0.0f);
      return;
    }
    if (token < 0 && !args.last_token.empty()) {
      BERTH_CHECK(~token < args.last_token.dim(0)) << "slot " << ~token << " of " << args.last_token.dim(0);
      token = args.last_token.data<int32_t>()[~token];
    }
    BERTH_CHECK(token >= 0 && token < vocab) << "token " << token << " of " << vocab;
    LoadWeightRow(args.table, token, out);
    if (args.scale != 1) {
      for (int64_t i = 0; i < hidden; ++i) out[i] *= args.scale;
    }
  });
}

}  // namespace berth::kernels::cpu
