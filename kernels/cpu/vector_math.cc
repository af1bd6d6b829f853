#include "kernels/cpu/vector_math.h"

#include <algorithm>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/vector_math.cc"
// foreach_target.h must come first.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#include <hwy/contrib/math/math-inl.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace berth::kernels::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;

// out[i] = op(a[i], b[i]); the last vector is padded, so that every element goes through the same instructions.
template <typename Op>
HWY_INLINE void Transform(const float* a, const float* b, float* out, int64_t n, const Op& op) {
  const D d;
  const int64_t lanes = hn::Lanes(d);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(op(hn::LoadU(d, a + i), hn::LoadU(d, b + i)), d, out + i);
  if (i == n) return;
  HWY_ALIGN float pad_a[16] = {}, pad_b[16] = {};
  std::copy(a + i, a + n, pad_a);
  std::copy(b + i, b + n, pad_b);
  hn::Store(op(hn::Load(d, pad_a), hn::Load(d, pad_b)), d, pad_a);
  std::copy(pad_a, pad_a + (n - i), out + i);
}

// Highway's Exp maps NaN to 0 and is undefined where f32 overflows.
HWY_INLINE V ExpOrNan(V x) {
  const D d;
  const V limit = hn::Set(d, 88.5f), infinity = hn::Set(d, std::numeric_limits<float>::infinity());
  const V value = hn::IfThenElse(hn::Gt(x, limit), infinity, hn::Exp(d, hn::Min(x, limit)));
  return hn::IfThenElse(hn::IsNaN(x), x, value);
}

void ExpShifted(const float* x, float shift, float scale, float* out, int64_t n) {
  const V vshift = hn::Set(D(), shift), vscale = hn::Set(D(), scale);
  Transform(x, x, out, n, [&](V a, V) HWY_ATTR { return ExpOrNan(hn::Mul(hn::Sub(a, vshift), vscale)); });
}

HWY_INLINE V Silu(V x) {
  const V one = hn::Set(D(), 1.f);
  return hn::Div(x, hn::Add(one, ExpOrNan(hn::Neg(x))));
}

// x / 2 * (1 + tanh(y)) = x / (1 + exp(-2 y)).
HWY_INLINE V GeluTanh(V x) {
  const D d;
  const V cube = hn::Mul(hn::Mul(x, x), x);
  const V y = hn::Mul(hn::Set(d, 1.5957691216057308f), hn::MulAdd(hn::Set(d, 0.044715f), cube, x));
  return hn::Div(x, hn::Add(hn::Set(d, 1.f), ExpOrNan(hn::Neg(y))));
}

// NaN stays NaN.
HWY_INLINE V Relu(V x) { return hn::IfThenElse(hn::Lt(x, hn::Zero(D())), hn::Zero(D()), x); }

template <typename Op>
HWY_INLINE void ActivateWith(const float* gate, const float* up, float* out, int64_t n, const Op& op) {
  if (up == nullptr) {
    Transform(gate, gate, out, n, [&](V g, V) HWY_ATTR { return op(g); });
  } else {
    Transform(gate, up, out, n, [&](V g, V u) HWY_ATTR { return hn::Mul(op(g), u); });
  }
}

void ActivateSimd(Activation activation, const float* gate, const float* up, float* out, int64_t n) {
  if (activation == Activation::kSilu) {
    ActivateWith(gate, up, out, n, [](V g) HWY_ATTR { return Silu(g); });
  } else if (activation == Activation::kGeluTanh) {
    ActivateWith(gate, up, out, n, [](V g) HWY_ATTR { return GeluTanh(g); });
  } else {
    ActivateWith(gate, up, out, n, [](V g) HWY_ATTR { return Relu(g); });
  }
}

int64_t IndexOfMaxSimd(const float* x, int64_t n) {
  const D d;
  const int64_t lanes = hn::Lanes(d), whole = n - n % lanes;
  V highest = hn::Set(d, -std::numeric_limits<float>::infinity()), nans = hn::Zero(d);
  for (int64_t i = 0; i < whole; i += lanes) {
    const V v = hn::LoadU(d, x + i);
    highest = hn::Max(highest, v);
    nans = hn::IfThenElse(hn::IsNaN(v), v, nans);
  }
  float most = hn::GetLane(hn::MaxOfLanes(d, highest));
  bool nan = !hn::AllFalse(d, hn::IsNaN(nans));
  for (int64_t i = whole; i < n; ++i) {
    most = std::max(most, x[i]);
    nan = nan || std::isnan(x[i]);
  }
  if (nan) return -1;
  for (int64_t i = 0; i < whole; i += lanes) {
    const intptr_t lane = hn::FindFirstTrue(d, hn::Eq(hn::LoadU(d, x + i), hn::Set(d, most)));
    if (lane >= 0) return i + lane;
  }
  const int64_t i = std::find(x + whole, x + n, most) - x;
  return i < n ? i : -1;
}

}  // namespace berth::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace berth::kernels::cpu {
HWY_EXPORT(ExpShifted);
HWY_EXPORT(ActivateSimd);
HWY_EXPORT(IndexOfMaxSimd);

double SumOfSquares(const float* x, int64_t n) {
  double sum[4] = {};
  for (int64_t i = 0; i < n; ++i) sum[i % 4] += static_cast<double>(x[i]) * x[i];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

double Sum(const float* x, int64_t n) {
  double sum[4] = {};
  for (int64_t i = 0; i < n; ++i) sum[i % 4] += x[i];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

int64_t IndexOfMax(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(IndexOfMaxSimd)(x, n); }

void ExpShifted(const float* x, float shift, float scale, float* out, int64_t n) {
  HWY_DYNAMIC_DISPATCH(ExpShifted)(x, shift, scale, out, n);
}

void SoftCap(const float* x, float bound, float* out, int64_t n) {
  for (int64_t i = 0; i < n; ++i) out[i] = bound * std::tanh(x[i] / bound);
}

void Activate(Activation activation, const float* gate, const float* up, float* out, int64_t n) {
  constexpr float kSqrtHalf = 0.70710678f;
  if (activation == Activation::kGelu) {
    for (int64_t i = 0; i < n; ++i) {
      const float value = 0.5f * gate[i] * (1 + std::erf(gate[i] * kSqrtHalf));
      out[i] = up == nullptr ? value : value * up[i];
    }
  } else {
    HWY_DYNAMIC_DISPATCH(ActivateSimd)(activation, gate, up, out, n);
  }
}

}  // namespace berth::kernels::cpu
#endif
