#include <algorithm>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "kernels/cuda/context.h"
#include "kernels/cuda/recordings.h"
#include "kernels/cuda/stages.h"
#include "tests/kernels/cuda/twin_tensors.h"

namespace berth::kernels {
namespace {

constexpr float kGuard = 123;
constexpr int64_t kGap = 8;  // guard values between rows

struct Entry {
  int context = 1;
  int rows = 1;
};

struct AttendCase {
  int q_heads = 2, kv_heads = 1, dim = 64;
  int latent = 0;  // so many of a key's first dimensions are the value; 0: values have the keys' size and a place of their own
  std::vector<Entry> entries;
  bool decode = false;  // the entries of one row at the front are announced as such
  bool beside = false;  // it is known how little the other entries are, so that they go beside them
  int window = 0;
  float softcap = 0;
  bool alibi = false;
  float growth = 1;  // keys of every hundred tokens are so many times as large as those before, until it begins anew

  int value_dim() const { return latent > 0 ? latent : dim; }
  int halves() const { return latent > 0 ? 1 : 2; }  // of a block: keys, values
};

std::vector<Entry> DecodeEntries(std::initializer_list<int> contexts) {
  std::vector<Entry> entries;
  for (const int context : contexts) entries.push_back({context, 1});
  return entries;
}

std::string Name(const AttendCase& c) {
  return std::to_string(c.q_heads) + "/" + std::to_string(c.kv_heads) + " heads of " + std::to_string(c.dim) +
         (c.latent > 0 ? " over latents of " + std::to_string(c.latent) : "") + ", " + std::to_string(c.entries.size()) +
         " entries, the first of " + std::to_string(c.entries[0].context) + ", window " + std::to_string(c.window) +
         ", softcap " + std::to_string(c.softcap) + (c.alibi ? ", ALiBi" : "") + (c.decode ? ", decode" : "") +
         (c.growth > 1 ? ", growing" : "") + (c.beside ? ", beside" : "");
}

// Blocks lie scrambled in the pool, and what no token owns is NaN on both sides. Rows of queries and outputs lie apart, with
// guard values before, between and behind.
class CudaAttendTest : public TwinTensors {
 protected:
  void SetUp() override {
    TwinTensors::SetUp();
    if (IsSkipped()) return;
    ASSERT_EQ(cudaStreamCreate(&generic_.stream), cudaSuccess);
    generic_.ReadDevice(0, /*generic=*/true);
    generic_.multiprocessors = 2;  // every block gets much to do
    ASSERT_TRUE(cuda::ReserveAttend(generic_, *allocator_).ok());
  }
  void TearDown() override {
    if (generic_.stream != nullptr) cudaStreamDestroy(generic_.stream);
  }

  struct Problem {
    AttendArgs host, device;
    Twin* out_memory;
  };

  static std::unique_ptr<Ops> MakeBatchInvariantOps() {
    return *MakeCudaOps({.batch_invariant = true, .max_tokens = 512, .max_hidden = 4096, .max_product = 4096});
  }
  // With ops that are batch-invariant, rows of a prompt have the same bits whole and in chunks of these sizes, in turn.
  void ExpectEqualInChunks(Ops& ops, const AttendCase& c, std::initializer_list<int> chunks);

  Problem Make(const AttendCase& c) {
    Problem problem;
    std::vector<int32_t> position, sequence, start = {0}, context;
    int width = 1, decode = 0;
    int64_t pairs = 0;
    for (const Entry& entry : c.entries) {
      const auto index = static_cast<int32_t>(context.size());
      for (int i = 0; i < entry.rows; ++i) {
        position.push_back(entry.context - entry.rows + i);
        sequence.push_back(index);
      }
      if (c.decode && entry.rows == 1 && decode == index) {
        ++decode;
      } else if (c.beside) {
        pairs += int64_t{entry.rows} * entry.context;
      }
      start.push_back(static_cast<int32_t>(position.size()));
      context.push_back(entry.context);
      width = std::max(width, (entry.context + kKvBlockTokens - 1) / kKvBlockTokens);
    }
    const int rows = static_cast<int>(position.size()), sequences = static_cast<int>(context.size());
    Twin& table = TwinTensors::Make(DType::kI32, DType::kI32, {sequences, width});
    auto* blocks = table.host.data<int32_t>();
    std::iota(blocks, blocks + sequences * width, 1);
    std::shuffle(blocks, blocks + sequences * width, random_);
    Upload(table);
    const Twin &positions = Ints(position), &sequence_of = Ints(sequence), &starts = Ints(start), &contexts = Ints(context);
    const Twin& pool = MakePool(c, blocks, width);
    const Twin &queries = Rows(rows, c.q_heads, c.dim), &slopes = Floats({c.q_heads}, 0.1f, 0.02f);
    Twin& out = Rows(rows, c.q_heads, c.value_dim());
    std::fill_n(out.host.data<float>(), out.host.elements(), kGuard);
    FillWithGuards(out);
    problem.out_memory = &out;
    const auto args = [&](auto side) {
      return AttendArgs{.q = View(side(queries), rows, c.q_heads, c.dim),
                        .batch = {.tokens = rows,
                                  .sequences = sequences,
                                  .decode_sequences = decode,
                                  .chunk_pairs = pairs,
                                  .position = side(positions),
                                  .sequence_of = side(sequence_of),
                                  .query_start = side(starts),
                                  .context_length = side(contexts),
                                  .block_table = side(table)},
                        .kv = Layer(side(pool), c),
                        .scale = 1 / std::sqrt(static_cast<float>(c.dim)),
                        .window = c.window,
                        .softcap = c.softcap,
                        .alibi_slope = c.alibi ? side(slopes) : Tensor(),
                        .out = View(side(out), rows, c.q_heads, c.value_dim())};
    };
    problem.host = args([](const Twin& twin) { return twin.host; });
    problem.device = args([](const Twin& twin) { return twin.device; });
    return problem;
  }

  // Memory of rows with gaps, one row before and one behind.
  Twin& Rows(int rows, int heads, int dim) { return Values({rows + 2, heads * dim + kGap}); }
  static Tensor View(const Tensor& memory, int rows, int heads, int dim) {
    const int64_t stride = memory.dim(1);
    auto* from = static_cast<std::byte*>(memory.raw()) + stride * Info(memory.dtype()).block_bytes;
    return Tensor(from, memory.dtype(), {rows, heads, dim}, {stride, dim, 1});
  }

  const Twin& MakePool(const AttendCase& c, const int32_t* blocks, int width) {
    const auto entries = static_cast<int64_t>(c.entries.size());
    const int64_t halves = c.halves() * c.kv_heads;
    Twin& pool = TwinTensors::Make(DType::kF32, GetParam(), {entries * width + 1, halves, kKvBlockTokens, c.dim});
    auto* values = pool.host.data<float>();
    std::fill_n(values, pool.host.elements(), std::nanf(""));
    for (int64_t e = 0; e < entries; ++e) {
      for (int t = 0; t < c.entries[e].context; ++t) {
        const int64_t block = blocks[e * width + t / kKvBlockTokens];
        for (int64_t half = 0; half < halves; ++half) {
          float* row = values + ((block * halves + half) * kKvBlockTokens + t % kKvBlockTokens) * c.dim;
          const float size = half % c.halves() == 0 ? std::pow(c.growth, static_cast<float>(t / 100 % 4)) : 1;
          for (int i = 0; i < c.dim; ++i) row[i] = Round(normal_(random_) * size);
        }
      }
    }
    Upload(pool);
    return pool;
  }

  static KvLayer Layer(const Tensor& pool, const AttendCase& c) {
    const int64_t head = c.halves() * kKvBlockTokens * c.dim * Info(pool.dtype()).block_bytes;
    return {.base = static_cast<std::byte*>(pool.raw()),
            .dtype = pool.dtype(),
            .kv_heads = c.kv_heads,
            .key_dim = c.dim,
            .value_dim = c.value_dim(),
            .values_in_keys = c.latent > 0,
            .block_stride = c.kv_heads * head,
            .head_stride = head};
  }

  void FillWithGuards(const Twin& twin) {
    const uint16_t guard = GetParam() == DType::kBF16 ? cpu::ToBf16(kGuard) : cpu::ToHalf(kGuard);
    const std::vector<uint16_t> guards(twin.host.elements(), guard);
    Copy(twin.device.raw(), guards.data(), guards.size() * sizeof(guard));
  }

  // Every head of every row is as near as the dtype allows, and nothing else was written.
  void ExpectSame(const Problem& problem) {
    ASSERT_TRUE(cuda_->Sync().ok());
    const Tensor &out = problem.host.out, &memory = problem.out_memory->host;
    const std::vector<float> actual = Download(problem.out_memory->device);
    const auto* expected = memory.data<float>();
    const int64_t stride = out.stride(0), dim = out.dim(2);
    for (int64_t i = 0; i < memory.elements(); ++i) {
      const bool guard = i < stride || i >= stride * (out.dim(0) + 1) || i % stride >= stride - kGap;
      ASSERT_TRUE(!guard || actual[i] == kGuard) << "guard value " << i << " was overwritten";
    }
    for (int64_t row = 0; row < out.dim(0); ++row) {
      for (int64_t head = 0; head < out.dim(1); ++head) {
        double difference = 0, size = 0;
        for (int64_t i = 0; i < dim; ++i) {
          const int64_t at = (row + 1) * stride + head * dim + i;
          ASSERT_FALSE(std::isnan(actual[at])) << "row " << row << ", head " << head << ", dimension " << i;
          difference += (actual[at] - expected[at]) * (actual[at] - expected[at]);
          size += expected[at] * expected[at];
        }
        ASSERT_LE(std::sqrt(difference), Tolerance() * std::sqrt(size)) << "row " << row << ", head " << head;
      }
    }
  }

  void Compare(const AttendCase& c) {
    SCOPED_TRACE(Name(c));
    const Problem problem = Make(c);
    cpu_->Attend(problem.host);
    cuda_->Attend(problem.device);
    ExpectSame(problem);
    // Without the kernels of one architecture.
    FillWithGuards(*problem.out_memory);
    cuda::Attend(generic_, problem.device);
    ASSERT_EQ(cudaStreamSynchronize(generic_.stream), cudaSuccess);
    ExpectSame(problem);
    twins_.clear();
    buffers_.clear();
  }

  // Through every head size and group.
  void CompareShapes(const std::vector<Entry>& entries, bool decode) {
    for (const int dim : {64, 96, 128, 256}) {
      for (const int group : {1, 2, 4, 7, 8}) {
        Compare({.q_heads = 2 * group, .kv_heads = 2, .dim = dim, .entries = entries, .decode = decode});
        if (HasFatalFailure()) return;
      }
    }
  }

  // Twice, each before a product that reads what was attended to, as layers do: on Hopper attention of few rows starts beside
  // a chain of products, and the next chain beside it.
  void CompareInChain(const AttendCase& c) {
    SCOPED_TRACE(Name(c));
    const Problem problem = Make(c), second = Make(c);
    const int64_t rows = c.entries.size(), inner = c.q_heads * c.dim, hidden = 512;
    const Twin& weight = Values({hidden, inner}, 1 / std::sqrt(static_cast<float>(inner)));
    Twin& residual = Values({rows, hidden});
    const Twin& start = Values({rows, hidden});
    residual.host_memory = start.host_memory;
    const auto run = [&](Ops& ops, auto side, auto args) {
      for (const AttendArgs* attend : {args(problem), args(second)}) {
        ops.Attend(*attend);
        const Tensor in(attend->out.raw(), attend->out.dtype(), {rows, inner}, {attend->out.stride(0), 1});
        ops.AttnOut({.in = in, .weight = WeightOf(side(weight)), .residual = side(residual)});
      }
    };
    run(
        *cpu_, [](const Twin& twin) { return twin.host; }, [](const Problem& p) { return &p.host; });
    std::vector<float> first;
    for (int repeat = 0; repeat < 5; ++repeat) {
      FillWithGuards(*problem.out_memory);
      FillWithGuards(*second.out_memory);
      Copy(residual.device.raw(), start.device.raw(), rows * hidden * 2);
      run(
          *cuda_, [](const Twin& twin) { return twin.device; }, [](const Problem& p) { return &p.device; });
      ExpectSame(problem);
      ExpectSame(second);
      ExpectClose(residual, 2 * Tolerance());
      const std::vector<float> values = Download(residual.device);
      if (repeat == 0) first = values;
      ASSERT_EQ(values, first) << "run " << repeat << " differs";
    }
    twins_.clear();
    buffers_.clear();
  }

  void CompareLatents(const std::vector<int>& head_counts) {
    const std::vector<Entry> cases[] = {DecodeEntries({63, 1, 64, 65, 300, 32, 33, 500}),
                                        {{70, 70}, {163, 33}, {128, 64}, {201, 1}, {1, 1}},
                                        {{1000, 1}, {64, 1}, {90, 40}}};
    for (const int heads : head_counts) {
      for (const std::vector<Entry>& entries : cases) {
        for (const bool decode : {false, true}) {
          Compare({.q_heads = heads, .dim = 576, .latent = 512, .entries = entries, .decode = decode});
          if (HasFatalFailure()) return;
        }
      }
    }
  }

  cuda::Context generic_;
};

void CudaAttendTest::ExpectEqualInChunks(Ops& ops, const AttendCase& c, std::initializer_list<int> chunks) {
  SCOPED_TRACE(Name(c));
  const int length = c.entries[0].rows;
  const Problem problem = Make(c);
  ops.Attend(problem.device);
  ASSERT_TRUE(ops.Sync().ok());
  const std::vector<float> whole = Download(problem.out_memory->device);
  FillWithGuards(*problem.out_memory);
  for (int begin = 0, i = 0; begin < length; ++i) {
    const int rows = std::min(chunks.begin()[i % chunks.size()], length - begin);
    AttendArgs chunk = problem.device;
    chunk.q = chunk.q.Rows(begin, rows);
    chunk.out = chunk.out.Rows(begin, rows);
    Batch& batch = chunk.batch;
    batch.tokens = rows;
    batch.decode_sequences = rows == 1 ? 1 : 0;
    batch.position = batch.position.Rows(begin, rows);
    batch.sequence_of = batch.sequence_of.Rows(begin, rows);
    batch.query_start = Ints({0, rows}).device;
    batch.context_length = Ints({begin + rows}).device;
    ops.Attend(chunk);
    begin += rows;
  }
  ASSERT_TRUE(ops.Sync().ok());
  const std::vector<float> pieces = Download(problem.out_memory->device);
  const auto [at, other] = std::mismatch(whole.begin(), whole.end(), pieces.begin());
  EXPECT_EQ(at, whole.end()) << "in row " << (at - whole.begin()) / problem.out_memory->host.dim(1) - 1 << ": " << *at
                             << ", in a chunk " << *other;
}

TEST_P(CudaAttendTest, DecodeMatchesTheCpu) { CompareShapes(DecodeEntries({63, 1, 64, 65, 300, 16, 17}), /*decode=*/true); }

TEST_P(CudaAttendTest, ManyDecodeRowsMatchTheCpu) {
  std::vector<Entry> entries = DecodeEntries({1500, 1, 16, 17});
  for (int i = 0; i < 26; ++i) entries.push_back({1 + i * 37 % 230, 1});
  CompareShapes(entries, /*decode=*/true);
  Compare({.q_heads = 71, .kv_heads = 1, .dim = 64, .entries = entries, .decode = true});
  for (const int window : {1, 20, 100}) {
    Compare({.q_heads = 6,
             .kv_heads = 2,
             .dim = 128,
             .entries = entries,
             .decode = true,
             .window = window,
             .softcap = 5,
             .alibi = true});
  }
}

TEST_P(CudaAttendTest, FewRowsBetweenProducts) {
  for (const int group : {1, 2, 4, 7, 8}) {
    for (const std::vector<Entry>& entries :
         {DecodeEntries({1}), DecodeEntries({1000}), DecodeEntries({63, 1, 64, 65, 300, 16, 17, 2000})}) {
      CompareInChain({.q_heads = 8 * group, .kv_heads = 8, .dim = 128, .entries = entries, .decode = true});
      CompareInChain({.q_heads = group, .kv_heads = 1, .dim = 128, .entries = entries, .decode = true});
      if (HasFatalFailure()) return;
    }
  }
  for (const int window : {1, 20, 100, 1000}) {
    CompareInChain(
        {.q_heads = 4, .kv_heads = 2, .dim = 128, .entries = DecodeEntries({63, 300, 1}), .decode = true, .window = window});
  }
  CompareInChain({.q_heads = 6,
                  .kv_heads = 2,
                  .dim = 128,
                  .entries = DecodeEntries({63, 300, 700}),
                  .decode = true,
                  .window = 90,
                  .softcap = 5,
                  .alibi = true});
  // More heads of keys than there are SMs.
  CompareInChain({.q_heads = 32, .kv_heads = 32, .dim = 128, .entries = DecodeEntries({63, 30, 1, 64, 65, 7}), .decode = true});
}

TEST_P(CudaAttendTest, FewRowsOneAfterTheOther) {
  const AttendCase c{.q_heads = 4, .kv_heads = 2, .dim = 128, .entries = DecodeEntries({300, 17}), .decode = true};
  const Problem first = Make(c), second = Make(c);
  for (const Problem* problem : {&first, &second}) {
    cpu_->Attend(problem->host);
    cuda_->Attend(problem->device);
  }
  ExpectSame(first);
  ExpectSame(second);
}

TEST_P(CudaAttendTest, ChunksMatchTheCpu) {
  // A whole prompt, a chunk that starts and ends within a block, a chunk of whole blocks, one row, a row of a new sequence.
  CompareShapes({{70, 70}, {163, 33}, {128, 64}, {201, 1}, {1, 1}}, /*decode=*/false);
  // Enough for all multiprocessors.
  Compare({.q_heads = 16, .kv_heads = 8, .dim = 128, .entries = {{520, 400}, {200, 200}, {129, 129}}});
}

TEST_P(CudaAttendTest, LongContextsMatchTheCpu) {
  for (const int dim : {64, 128, 256}) {
    Compare({.q_heads = 4, .kv_heads = 2, .dim = dim, .entries = DecodeEntries({1000}), .decode = true});
    Compare({.q_heads = 4, .kv_heads = 1, .dim = dim, .entries = {{1000, 1}, {999, 1}, {640, 257}}, .decode = true});
  }
}

TEST_P(CudaAttendTest, DecodeRowsAndChunksShareABatch) {
  for (const int dim : {64, 96, 128, 256}) {
    Compare({.q_heads = 4, .kv_heads = 2, .dim = dim, .entries = {{130, 1}, {64, 1}, {90, 90}, {333, 40}}, .decode = true});
  }
}

TEST_P(CudaAttendTest, ShortChunksGoBesideDecodeRows) {
  std::vector<Entry> many = DecodeEntries({1500, 1, 16, 64});
  for (int i = 0; i < 40; ++i) many.push_back({1 + i * 37 % 230, 1});
  for (int i = 1; i < 20; ++i) many.push_back({i * 13 % 70 + i, i});
  const std::vector<Entry> cases[] = {{{1, 1}, {7, 7}},     {{130, 1}, {64, 1}, {90, 90}, {333, 40}},
                                      {{70, 70}},           {{163, 33}, {128, 64}, {201, 1}, {1, 1}, {65, 2}},
                                      {{3000, 9}, {65, 3}}, many};
  for (const std::vector<Entry>& entries : cases) {
    for (const int dim : {64, 96, 128, 256}) {
      Compare({.q_heads = 4, .kv_heads = 2, .dim = dim, .entries = entries, .decode = true, .beside = true});
      if (HasFatalFailure()) return;
    }
    for (const int group : {1, 3, 4, 5, 8}) {
      Compare({.q_heads = 2 * group,
               .kv_heads = 2,
               .dim = 128,
               .entries = entries,
               .decode = true,
               .beside = true,
               .softcap = group < 5 ? 5.0f : 0,
               .alibi = true});
      if (HasFatalFailure()) return;
    }
  }
}

// Layers of the same batch, of more kinds than plans are kept for; then a batch of the same size and other lengths.
TEST_P(CudaAttendTest, BlocksBeginByTheLengthsOfTheirBatch) {
  std::vector<Entry> entries = DecodeEntries({700, 65, 3, 400});
  for (const int extra : {0, 30}) {
    for (int i = 0; i < extra; ++i) entries.push_back({1 + i * 53 % 300, 1});
    for (uint64_t number = 1; number <= 2; ++number) {
      std::reverse(entries.begin(), entries.end());
      Problem problem = Make({.q_heads = 4, .kv_heads = 2, .dim = 128, .entries = entries, .decode = true});
      problem.device.batch.number = 2 * extra + number;
      for (const int window : {0, 0, 100, 0, 20, 100, 0}) {
        SCOPED_TRACE(absl::StrCat(extra, " more, batch ", number, ", window ", window));
        problem.host.window = problem.device.window = window;
        FillWithGuards(*problem.out_memory);
        cpu_->Attend(problem.host);
        cuda_->Attend(problem.device);
        ExpectSame(problem);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(CudaAttendTest, ManyEntriesOfAllLengths) {
  std::vector<Entry> entries;
  for (int i = 0; i < 300; ++i) entries.push_back({1 + i * 37 % 150, 1});
  Compare({.q_heads = 4, .kv_heads = 2, .dim = 64, .entries = entries, .decode = true});
  Compare({.q_heads = 2, .kv_heads = 1, .dim = 128, .entries = entries, .decode = false});
}

TEST_P(CudaAttendTest, GroupsOfMoreThanEightHeads) {
  for (const bool decode : {false, true}) {
    Compare({.q_heads = 71, .kv_heads = 1, .dim = 64, .entries = {{100, 1}, {7, 1}, {65, 3}}, .decode = decode});
  }
}

TEST_P(CudaAttendTest, WindowSoftcapAndAlibi) {
  for (const int dim : {64, 96, 128, 256}) {
    for (const bool decode : {false, true}) {
      const std::vector<Entry> entries = {{63, 1}, {300, 1}, {128, 1}, {150, 150}, {260, 70}};
      for (const int window : {1, 20, 64, 100, 1000}) {
        Compare({.q_heads = 4, .kv_heads = 2, .dim = dim, .entries = entries, .decode = decode, .window = window});
      }
      Compare({.q_heads = 4, .kv_heads = 2, .dim = dim, .entries = entries, .decode = decode, .softcap = 3});
      Compare({.q_heads = 4, .kv_heads = 2, .dim = dim, .entries = entries, .decode = decode, .alibi = true});
      Compare({.q_heads = 6,
               .kv_heads = 2,
               .dim = dim,
               .entries = entries,
               .decode = decode,
               .window = 90,
               .softcap = 5,
               .alibi = true});
    }
  }
}

// Scores that are higher than those before by tens and by hundreds of powers of two, and lower ones behind them.
TEST_P(CudaAttendTest, ScoresThatGrow) {
  for (const float growth : {3.f, 6.f}) {
    for (const int window : {0, 90}) {
      for (const int group : {1, 3, 4}) {
        Compare({.q_heads = 2 * group,
                 .kv_heads = 2,
                 .dim = 128,
                 .entries = {{700, 700}, {530, 130}, {410, 1}},
                 .window = window,
                 .growth = growth});
      }
    }
  }
  Compare({.q_heads = 4, .kv_heads = 2, .dim = 128, .entries = {{530, 530}}, .alibi = true, .growth = 6});
  const auto ops = MakeBatchInvariantOps();
  ExpectEqualInChunks(*ops, {.q_heads = 8, .kv_heads = 2, .dim = 128, .entries = {{703, 703}}, .growth = 6},
                      {1, 33, 66, 5, 64, 31, 2, 100});
}

TEST_P(CudaAttendTest, OddHeadSizes) {
  for (const int dim : {16, 80, 200}) {
    Compare({.q_heads = 5, .kv_heads = 5, .dim = dim, .entries = {{33, 1}, {140, 12}}, .decode = true, .alibi = true});
  }
}

TEST_P(CudaAttendTest, LatentsOfFewHeadsMatchTheCpu) { CompareLatents({1, 16}); }

TEST_P(CudaAttendTest, LatentsOfManyHeadsMatchTheCpu) { CompareLatents({71, 128}); }

TEST_P(CudaAttendTest, OddLatentsMatchTheCpu) {
  Compare({.q_heads = 5, .dim = 40, .latent = 32, .entries = {{33, 1}, {140, 12}}, .decode = true});
  Compare({.q_heads = 16, .dim = 576, .latent = 512, .entries = {{333, 1}, {140, 12}}, .decode = true, .window = 100});
}

TEST_P(CudaAttendTest, EqualBatchesGiveEqualBits) {
  std::vector<Entry> many;
  for (int i = 0; i < 40; ++i) many.push_back({1 + i * 53 % 900, 1});
  for (AttendCase c : {AttendCase{.q_heads = 8, .kv_heads = 2, .dim = 128}, {.q_heads = 16, .dim = 576, .latent = 512}}) {
    for (const std::vector<Entry>& entries : {DecodeEntries({700, 65, 3, 400}), many}) {
      for (const bool decode : {false, true}) {
        c.entries = entries;
        c.decode = decode;
        const Problem problem = Make(c);
        std::vector<float> first;
        for (int run = 0; run < 5; ++run) {
          cuda_->Attend(problem.device);
          ASSERT_TRUE(cuda_->Sync().ok());
          const std::vector<float> out = Download(problem.out_memory->device);
          if (run == 0) first = out;
          ASSERT_EQ(std::memcmp(out.data(), first.data(), out.size() * sizeof(float)), 0) << "run " << run;
        }
      }
    }
  }
}

TEST_P(CudaAttendTest, BatchInvariantRowsAreEqualInAllChunks) {
  const auto ops = MakeBatchInvariantOps();
  for (const int dim : {64, 96, 128, 256, 80}) {
    for (const int group : {1, 2, 4, 8}) {
      for (const int window : {0, 90}) {
        ExpectEqualInChunks(*ops, {.q_heads = 2 * group, .kv_heads = 2, .dim = dim, .entries = {{403, 403}}, .window = window},
                            {1, 33, 66, 5, 64, 31, 2, 100});
      }
    }
  }
}

// So many rows that two blocks share keys and values, and chunks of fewer.
TEST_P(CudaAttendTest, RowsAreEqualWhetherBlocksShareTheirKeysOrNot) {
  const auto ops = MakeBatchInvariantOps();
  for (const int group : {1, 3}) {
    for (const int window : {0, 700}) {
      ExpectEqualInChunks(*ops,
                          {.q_heads = 64 * group, .kv_heads = 64, .dim = 128, .entries = {{2300, 2300}}, .window = window},
                          {300, 129, 31});
    }
  }
}

// A batch that is padded to a captured size, and lengths that change between launches of the graph.
class CudaAttendGraphTest : public CudaAttendTest {
 protected:
  void Follow(const AttendCase& c);
};

TEST_P(CudaAttendGraphTest, ACapturedLaunchFollowsTheLengthsOnTheDevice) {
  const std::vector<Entry> entries = DecodeEntries({500, 90, 1, 257});
  Follow({.q_heads = 4, .kv_heads = 2, .dim = 128, .entries = entries, .decode = true});
  Follow({.q_heads = 16, .dim = 576, .latent = 512, .entries = entries, .decode = true});
}

void CudaAttendGraphTest::Follow(const AttendCase& c) {
  SCOPED_TRACE(Name(c));
  const Problem problem = Make(c);
  cuda::Context context;
  ASSERT_EQ(cudaStreamCreate(&context.stream), cudaSuccess);
  context.ReadDevice(0, /*generic=*/false);
  ASSERT_TRUE(cuda::ReserveAttend(context, *allocator_).ok());
  AttendArgs args = problem.device;
  args.batch.number = 1;
  cuda::Attend(context, args);  // what was planned for it is not the recording's
  cuda::Recordings recordings;
  recordings.Begin(context);
  cuda::Attend(context, args);
  const absl::StatusOr<int> recording = recordings.End(context);
  ASSERT_TRUE(recording.ok()) << recording.status();
  const std::vector<std::vector<int32_t>> lengths = {{500, 90, 1, 257}, {3, 64, 1, 200}, {128, 0, 1, 0}, {499, 90, 1, 256}};
  for (const std::vector<int32_t>& length : lengths) {
    SCOPED_TRACE(length[0]);
    const Tensor& out = problem.host.out;
    const int64_t stride = out.stride(0);
    for (size_t i = 0; i < length.size(); ++i) {
      problem.host.batch.context_length.data<int32_t>()[i] = length[i];
      problem.host.batch.position.data<int32_t>()[i] = std::max(length[i] - 1, 0);
    }
    cpu_->Attend(problem.host);
    for (size_t i = 0; i < length.size(); ++i) {
      if (length[i] == 0) std::fill_n(out.data<float>() + i * stride, stride - kGap, 0.f);
    }
    Copy(problem.device.batch.context_length.raw(), length.data(), length.size() * sizeof(int32_t));
    recordings.Replay(context, *recording);
    ASSERT_EQ(cudaStreamSynchronize(context.stream), cudaSuccess);
    ExpectSame(problem);
  }
  cudaStreamDestroy(context.stream);
}

INSTANTIATE_TEST_SUITE_P(Types, CudaAttendTest, kDeviceTypes, DeviceTypeName);
INSTANTIATE_TEST_SUITE_P(Types, CudaAttendGraphTest, kDeviceTypes, DeviceTypeName);

}  // namespace
}  // namespace berth::kernels
