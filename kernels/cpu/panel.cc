#include "kernels/cpu/panel.h"

#include <hwy/cache_control.h>

#include <algorithm>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/panel.cc"
// foreach_target.h must come first.
// clang-format off
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
// clang-format on

#include "kernels/cpu/dequantize.inc"
#include "kernels/cpu/fold.inc"

HWY_BEFORE_NAMESPACE();
namespace berth::kernels::cpu::HWY_NAMESPACE {

constexpr int kVectorLanes = hn::MaxLanes(D());
constexpr int kParts = kLanes / kVectorLanes;  // vectors that hold the 16 lanes
constexpr bool kWide = kParts == 1;            // 32 registers

// A tile is some rows of x times some rows of the weight, as many sums as the registers hold.
constexpr int kMaxMr = kWide ? 6 : 4;
constexpr int TileWidth(int mr) { return kWide ? (mr <= 3 ? 8 : 4) : 12 / mr; }

// What stays in the first-level cache: kStripRows rows and about kBlockK columns of the weight as f32, one part of their lanes.
constexpr int kStripRows = kWide ? 8 : 12;
constexpr int64_t kBlockK = kWide ? 1024 : 768;
static_assert(kStripRows <= kMaxStripRows);
constexpr int kBlockTiles = 4;  // tiles of x that they are multiplied with before the next

// So few rows of x are one tile: rows of the weight are multiplied with it as they are dequantised, in registers. Of x,
// kFewValues stay in the first-level cache.
constexpr int kFewRows = kWide ? 8 : 1;
constexpr int64_t kFewValues = 6 * 1024;

// Rows of x are cut into as few tiles as hold them, of nearly the same height: low ones leave the multipliers idle.
struct Tiles {
  explicit Tiles(int64_t rows)
      : rows(rows), count(rows <= kFewRows ? 1 : (rows + kMaxMr - 1) / kMaxMr), height(rows / count), higher(rows % count) {}
  int64_t Begin(int64_t tile) const { return std::min(tile * height + std::min(tile, higher), rows); }
  int64_t rows, count, height, higher;  // the first `higher` tiles have a row more than `height`
};

// Where one row's values go in a packed strip, and the dot product that takes them up where they come.
struct PackedOut {
  HWY_INLINE PackedOut operator+(int64_t i) const { return {at + i * kStripRows}; }
  float* at;
};
HWY_INLINE void Put(V values, PackedOut out) { hn::Store(values, D(), out.at); }
HWY_INLINE void PutFirst(V values, int64_t, PackedOut out) { Put(values, out); }

struct DotOut {
  HWY_INLINE DotOut operator+(int64_t i) const { return {x + i, k + i, sum}; }
  const float* x;
  int64_t k;
  V* sum;  // [kParts]
};
HWY_INLINE void Put(V values, DotOut out) {
  V& sum = out.sum[out.k % kLanes / kVectorLanes];
  sum = hn::MulAdd(hn::LoadU(D(), out.x), values, sum);
}
HWY_INLINE void PutFirst(V values, int64_t, DotOut out) { Put(values, out); }

// Vectors in registers.
struct ValuesOut {
  HWY_INLINE ValuesOut operator+(int64_t i) const { return {at + i / kVectorLanes}; }
  V* at;
};
HWY_INLINE void Put(V values, ValuesOut out) { *out.at = values; }
HWY_INLINE void PutFirst(V values, int64_t, ValuesOut out) { Put(values, out); }

// Rows [first, first + rows) of the panel, columns [k, k + count), for tiles: [count / kVectorLanes][kStripRows][kVectorLanes],
// padded with zeros.
HWY_INLINE void PackStrip(const Panel& panel, int first, int rows, int64_t k, int64_t count, float* out) {
  const int64_t row_bytes = RowBytes(panel.dtype, panel.k), filled = std::min(count, panel.k - k);
  const int64_t filled_bytes = RowBytes(panel.dtype, filled);
  const std::byte* bytes = panel.weight + first * row_bytes + RowBytes(panel.dtype, k);
  for (int n = 0; n < kStripRows; ++n, bytes += row_bytes) {
    const PackedOut row{out + n * kVectorLanes};
    if (n < rows) {
      // The next strip's: the hardware's prefetcher does not follow so short pieces of rows.
      for (int64_t at = 0; at < filled_bytes; at += 64) hwy::Prefetch(bytes + kStripRows * row_bytes + at);
      Dequantize(panel.dtype, bytes, row, filled);
    }
    for (int64_t i = n < rows ? hwy::RoundUpTo(filled, kVectorLanes) : 0; i < count; i += kVectorLanes) {
      Put(hn::Zero(D()), row + i);
    }
  }
}

// kMr rows of x times TileWidth(kMr) rows of a strip, one part of the lanes over `steps` steps. `lanes` [sum][kLanes] holds
// the running sums, unless the tile begins them.
template <int kMr>
HWY_INLINE void Tile(const float* x, const float* w, int64_t steps, bool begins, float* lanes) {
  constexpr int kNr = TileWidth(kMr), kSums = kMr * kNr;
  static_assert(kSums % 4 == 0 && kStripRows % kNr == 0);
  const D d;
  V sum[kSums];
  for (int i = 0; i < kSums; ++i) sum[i] = begins ? hn::Zero(d) : hn::Load(d, lanes + i * kLanes);
  for (; steps > 0; --steps, x += kMr * kLanes, w += kStripRows * kLanes) {
    V wv[kNr];
    for (int j = 0; j < kNr; ++j) wv[j] = hn::Load(d, w + j * kVectorLanes);
    for (int i = 0; i < kMr; ++i) {
      const V xv = hn::Load(d, x + i * kVectorLanes);
      for (int j = 0; j < kNr; ++j) sum[i * kNr + j] = hn::MulAdd(xv, wv[j], sum[i * kNr + j]);
    }
  }
  for (int i = 0; i < kSums; ++i) hn::Store(sum[i], d, lanes + i * kLanes);
}

HWY_INLINE float WithBias(const Panel& panel, int row, float sum) {
  return panel.bias == nullptr ? sum : sum + panel.bias[row];
}

// What a tile of x has to do with a strip.
struct Strip {
  int first, rows;
  float* packed;  // blocks of columns, as PackStrip writes them
  int64_t k = 0, count = 0;
};

template <int kMr>
HWY_INLINE void TilePart(const Strip& strip, const float* block, const float* x, int part, float* lanes) {
  const float* from = x + kMr * (strip.k + part * kVectorLanes);
  const float* w = block + kStripRows * part * kVectorLanes;
  for (int n = 0; n < strip.rows; n += TileWidth(kMr)) {
    Tile<kMr>(from, w + n * kVectorLanes, strip.count / kLanes, strip.k == 0, lanes + n * kMr * kLanes + part * kVectorLanes);
  }
}

template <int kMr, int kNr = TileWidth(kMr)>
HWY_INLINE void FinishTile(const Panel& panel, const Strip& strip, int64_t m, const float* lanes) {
  constexpr int kSums = kMr * kNr;
  for (int n = 0; n < strip.rows; n += kNr, lanes += kSums * kLanes) {
    float sums[kSums];
    Reduce(lanes, kSums, sums);
    const int width = std::min(kNr, strip.rows - n), column = strip.first + n;
    for (int i = 0; i < kMr; ++i) {
      float* out = panel.out + (m + i) * panel.out_stride + column;
      const float* row = sums + i * kNr;
      if (panel.bias == nullptr && width == kNr) {
        for (int j = 0; j < kNr; ++j) out[j] = row[j];
      } else {
        for (int j = 0; j < width; ++j) out[j] = WithBias(panel, column + j, row[j]);
      }
    }
  }
}

// Calls function(std::integral_constant<int, mr>) for 1 <= mr <= kMost.
template <int kMost, class Function>
HWY_INLINE void ForHeight(int mr, const Function& function) {
  if constexpr (kMost > 1) {
    if (mr < kMost) return ForHeight<kMost - 1>(mr, function);
  }
  function(std::integral_constant<int, kMost>());
}

// Columns of a block: at most about `most`, whole blocks of the dtype, and the blocks of a row about equal.
int64_t BlockColumns(const Panel& panel, int64_t most) {
  const int64_t blocks = (panel.padded_k + most - 1) / most;
  const int64_t unit = std::max<int64_t>(kLanes, Info(panel.dtype).block_elements);
  return ((panel.padded_k + blocks - 1) / blocks + unit - 1) / unit * unit;
}

// x of one row: rows of the weight are multiplied where they are dequantised, some at once, so that no sum waits for itself.
// Its registers are its own: not inlined.
HWY_NOINLINE void MultiplyRow(const Panel& panel) {
  constexpr int kRows = kWide ? 8 : 4;
  const int64_t row_bytes = RowBytes(panel.dtype, panel.k);
  for (int first = 0; first < panel.rows; first += kRows) {
    const int rows = std::min(kRows, panel.rows - first);
    HWY_ALIGN float lanes[kRows * kLanes];
    const uint8_t* src[kRows];
    for (int n = 0; n < kRows; ++n) {
      src[n] = reinterpret_cast<const uint8_t*>(panel.weight) + (first + std::min(n, rows - 1)) * row_bytes;
    }
    WithFormat(panel.dtype, [&](auto block_bytes, auto elements, const auto& block) HWY_ATTR {
      V sum[kRows][kParts];
      for (auto& row : sum) {
        for (V& part : row) part = hn::Zero(D());
      }
      int64_t k = 0;
      for (; k + elements <= panel.k; k += elements) {
        for (int n = 0; n < kRows; ++n) {
          // Weights stream from memory, where the hardware's prefetcher stops at every page.
          for (int64_t at = 0; at < block_bytes; at += 64) hwy::Prefetch(src[n] + kRows * row_bytes + at);
          block(src[n], DotOut{panel.x + k, 0, sum[n]});
          src[n] += block_bytes;
        }
      }
      if (k < panel.k) {
        for (int n = 0; n < kRows; ++n) PutTail(panel.dtype, src[n], DotOut{panel.x + k, 0, sum[n]}, panel.k - k);
      }
      for (int n = 0; n < kRows; ++n) {
        for (int p = 0; p < kParts; ++p) hn::Store(sum[n][p], D(), lanes + n * kLanes + p * kVectorLanes);
      }
    });
    float sums[kRows];
    Reduce(lanes, kRows, sums);
    for (int n = 0; n < rows; ++n) panel.out[first + n] = WithBias(panel, first + n, sums[n]);
  }
}

// kMr rows of x times `blocks` blocks of kNr rows of the weight. `lanes` [kMr][kStripRows][kLanes] holds the running sums,
// unless the tile begins them. What lies `ahead` bytes further is fetched.
template <int kMr, int kNr, int64_t kBytes, int64_t kElements, class Block>
HWY_INLINE void DequantizedTile(const Block& block, const uint8_t* const (&rows)[kNr], int64_t ahead, const float* x,
                                int64_t blocks, bool begins, float* lanes) {
  constexpr int kVectors = kElements / kVectorLanes;
  const D d;
  V sum[kMr][kNr];
  for (int m = 0; m < kMr; ++m) {
    for (int n = 0; n < kNr; ++n) {
      sum[m][n] = begins ? hn::Zero(d) : hn::Load(d, lanes + (m * kStripRows + n) * kLanes);
    }
  }
  for (int64_t b = 0; b < blocks; ++b, x += kMr * kElements) {
    V values[kNr][kVectors];
    for (int n = 0; n < kNr; ++n) {
      const uint8_t* const w = rows[n] + b * kBytes;
      for (int64_t at = 0; at < kBytes; at += 64) hwy::Prefetch(w + ahead + at);
      block(w, ValuesOut{values[n]});
    }
    for (int v = 0; v < kVectors; ++v) {
      for (int m = 0; m < kMr; ++m) {
        const V xv = hn::Load(d, x + (v * kMr + m) * kVectorLanes);
        for (int n = 0; n < kNr; ++n) sum[m][n] = hn::MulAdd(xv, values[n][v], sum[m][n]);
      }
    }
  }
  for (int m = 0; m < kMr; ++m) {
    for (int n = 0; n < kNr; ++n) hn::Store(sum[m][n], d, lanes + (m * kStripRows + n) * kLanes);
  }
}

// Few rows of x, and no strip packed.
template <int kMr>
HWY_NOINLINE void MultiplyFew(const Panel& panel) {
  constexpr int kNr = kMr <= 4 ? 4 : 2;
  const int64_t row_bytes = RowBytes(panel.dtype, panel.k), block_k = BlockColumns(panel, kFewValues / kMr);
  for (int first = 0; first < panel.rows; first += kStripRows) {
    const int rows = std::min(kStripRows, panel.rows - first);
    HWY_ALIGN float lanes[kMr * kStripRows * kLanes];
    const uint8_t* const strip = reinterpret_cast<const uint8_t*>(panel.weight) + first * row_bytes;
    WithFormat(panel.dtype, [&](auto block_bytes, auto elements, const auto& block) HWY_ATTR {
      for (int64_t k = 0; k < panel.k; k += block_k) {
        const int64_t count = std::min(block_k, panel.k - k), tail = count % elements;
        for (int n = 0; n < rows; n += kNr) {
          const uint8_t* w[kNr];
          for (int i = 0; i < kNr; ++i) w[i] = strip + std::min(n + i, rows - 1) * row_bytes + k / elements * block_bytes;
          DequantizedTile<kMr, kNr, block_bytes(), elements()>(block, w, kStripRows * row_bytes, panel.x + k * kMr,
                                                               count / elements, k == 0, lanes + n * kLanes);
        }
        for (int n = 0; tail != 0 && n < rows; ++n) {
          V values;
          PutTail(panel.dtype, strip + (n + 1) * row_bytes - RowBytes(panel.dtype, tail), ValuesOut{&values}, tail);
          for (int m = 0; m < kMr; ++m) {
            float* const sum = lanes + (m * kStripRows + n) * kLanes;
            const V x = hn::Load(D(), panel.x + (panel.k - tail) * kMr + m * kVectorLanes);
            hn::Store(hn::MulAdd(x, values, hn::Load(D(), sum)), D(), sum);
          }
        }
      }
    });
    FinishTile<kMr, kStripRows>(panel, {.first = first, .rows = rows, .packed = nullptr}, 0, lanes);
  }
}

constexpr int kTileLanes = kMaxMr * kStripRows * kLanes;

// Calls function(std::integral_constant<int, mr>, first row, sums) for tiles [begin, end).
template <class Function>
HWY_INLINE void ForTiles(const Tiles& tiles, int64_t begin, int64_t end, float* lanes, const Function& function) {
  for (int64_t tile = begin; tile < end; ++tile, lanes += kTileLanes) {
    const int64_t m = tiles.Begin(tile);
    ForHeight<kMaxMr>(static_cast<int>(tiles.Begin(tile + 1) - m), [&](auto mr) { function(mr, m, lanes); });
  }
}

// Tiles [begin, end) of x, kBlockTiles at most, times the strip, which is packed for the first of them.
HWY_INLINE void MultiplyStrip(const Panel& panel, const Tiles& tiles, int64_t begin, int64_t end, int64_t block_k,
                              Strip strip) {
  HWY_ALIGN float lanes[kBlockTiles * kTileLanes];
  for (strip.k = 0; strip.k < panel.padded_k; strip.k += block_k) {
    strip.count = std::min(block_k, panel.padded_k - strip.k);
    float* const block = strip.packed + kStripRows * strip.k;
    if (begin == 0) PackStrip(panel, strip.first, strip.rows, strip.k, strip.count, block);
    for (int part = 0; part < kParts; ++part) {
      ForTiles(tiles, begin, end, lanes, [&](auto mr, int64_t m, float* sums) {
        TilePart<mr()>(strip, block, panel.x + m * panel.padded_k, part, sums);
      });
    }
  }
  ForTiles(tiles, begin, end, lanes, [&](auto mr, int64_t m, float* sums) { FinishTile<mr()>(panel, strip, m, sums); });
}

void MultiplyPanelSimd(const Panel& panel, float* scratch) {
  if (panel.x_rows == 1) return MultiplyRow(panel);
  if constexpr (kWide) {
    if (panel.x_rows <= kFewRows) {
      return ForHeight<kFewRows - 1>(static_cast<int>(panel.x_rows - 1),
                                     [&](auto others) { MultiplyFew<others() + 1>(panel); });
    }
  }
  const int64_t block_k = BlockColumns(panel, kBlockK);
  const Tiles tiles(panel.x_rows);
  // As many strips stay packed as the second-level cache holds, so that x comes from beyond it once for all of them.
  const int64_t held = tiles.count <= kBlockTiles ? 1 : std::max<int64_t>(1, kHeldValues / (kStripRows * panel.padded_k));
  const int step = static_cast<int>(std::min<int64_t>(kStripRows * held, panel.rows));
  for (int from = 0; from < panel.rows; from += step) {
    const int to = std::min(from + step, panel.rows);
    for (int64_t begin = 0; begin < tiles.count; begin += kBlockTiles) {
      const int64_t end = std::min(begin + kBlockTiles, tiles.count);
      for (int64_t m = tiles.Begin(begin); m < tiles.Begin(end); ++m) {
        for (int n = from; n < to; n += 64 / sizeof(float)) hwy::Prefetch(panel.out + m * panel.out_stride + n);
      }
      for (int first = from; first < to; first += kStripRows) {
        MultiplyStrip(
            panel, tiles, begin, end, block_k,
            {.first = first, .rows = std::min(kStripRows, to - first), .packed = scratch + (first - from) * panel.padded_k});
      }
    }
  }
}

// Padded with zeros: each tile as [padded_k / kVectorLanes][row][kVectorLanes].
void PackRowsSimd(const Tensor& x, int64_t padded_k, float* out) {
  const D d;
  const Tiles tiles(x.dim(0));
  const int64_t k = x.dim(1);
  for (int64_t tile = 0; tile < tiles.count; ++tile) {
    const int64_t begin = tiles.Begin(tile), mr = tiles.Begin(tile + 1) - begin;
    for (int64_t row = 0; row < mr; ++row) {
      const float* from = x.data<float>() + (begin + row) * x.stride(0);
      float* to = out + begin * padded_k + row * kVectorLanes;
      int64_t at = 0;
      for (; at + kVectorLanes <= k; at += kVectorLanes, to += mr * kVectorLanes) hn::Store(hn::LoadU(d, from + at), d, to);
      for (; at < padded_k; at += kVectorLanes, to += mr * kVectorLanes) {
        std::fill(std::copy(from + at, from + std::max(at, k), to), to + kVectorLanes, 0.f);
      }
    }
  }
}

}  // namespace berth::kernels::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace berth::kernels::cpu {
HWY_EXPORT(MultiplyPanelSimd);
HWY_EXPORT(PackRowsSimd);

void PackRows(const Tensor& x, int64_t padded_k, float* out) { HWY_DYNAMIC_DISPATCH(PackRowsSimd)(x, padded_k, out); }

void MultiplyPanel(const Panel& panel, float* scratch) { HWY_DYNAMIC_DISPATCH(MultiplyPanelSimd)(panel, scratch); }

}  // namespace berth::kernels::cpu
#endif
