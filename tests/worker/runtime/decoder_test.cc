#include "worker/model/decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <string>

#include "kernels/cpu/cpu_ops.h"
#include "tests/worker/runtime/tiny_model.h"
#include "worker/model/rope_table.h"
#include "worker/runtime/kv_cache.h"

namespace berth::model {
namespace {

using kernels::DType;
using kernels::Tensor;
using runtime::TinyModel;
using testing::FloatEq;
using testing::Pointwise;

constexpr int kBlocksPerSequence = 4;
constexpr int kMaxSequences = 16;
constexpr int kMaxTokens = 512;

// Consecutive tokens of one sequence.
struct Chunk {
  int sequence = 0;
  int position = 0;
  std::vector<int32_t> tokens;
};

struct HarnessOptions {
  int threads = 1;
  DType kv_dtype = DType::kF32;
  bool poison = false;  // the cache starts as NaN
};

// A decoder with its cache. Sequence s owns blocks s, s + 16, s + 32, …
class Harness {
 public:
  explicit Harness(TinyModel& model, const HarnessOptions& options = {})
      : vocab_(model.spec.vocab),
        ops_(kernels::MakeCpuOps({.threads = options.threads})),
        kv_(*runtime::KvCache::Create(model.spec, options.kv_dtype, kBlocksPerSequence * kMaxSequences,
                                      kernels::HostAllocator())),
        decoder_(*Decoder::Create(model.spec, model.weights, *ops_, kernels::HostAllocator(),
                                  {.max_tokens = kMaxTokens, .max_last_rows = kMaxSequences})) {
    if (!options.poison) return;
    for (int i = 0; i < kv_.blocks(); ++i) std::memset(kv_.block(i).data(), 0xff, kv_.block(i).size());
  }

  // The logits of every token of every chunk, in order, or of the last token of each.
  std::vector<std::vector<float>> Run(const std::vector<Chunk>& chunks, bool last = false) {
    std::vector<int32_t> token, position, sequence_of, start = {0}, length, table, last_row, last_position;
    for (const Chunk& chunk : chunks) {
      token.insert(token.end(), chunk.tokens.begin(), chunk.tokens.end());
      for (size_t i = 0; i < chunk.tokens.size(); ++i) position.push_back(chunk.position + static_cast<int>(i));
      sequence_of.insert(sequence_of.end(), chunk.tokens.size(), static_cast<int>(length.size()));
      start.push_back(static_cast<int>(token.size()));
      length.push_back(position.back() + 1);
      last_row.push_back(static_cast<int32_t>(token.size()) - 1);
      last_position.push_back(position.back());
      for (int i = 0; i < kBlocksPerSequence; ++i) table.push_back(chunk.sequence + i * kMaxSequences);
    }
    const int sequences = static_cast<int>(chunks.size()), tokens = static_cast<int>(token.size());
    const int rows = last ? sequences : tokens;
    std::vector<int32_t> index(tokens + 1);
    std::iota(index.begin(), index.end(), 0);
    std::vector<float> logits(static_cast<size_t>(rows) * vocab_);
    const auto ints = [](std::vector<int32_t>& v) { return Tensor(v.data(), DType::kI32, {static_cast<int64_t>(v.size())}); };
    DecoderInput input{.token = ints(token),
                       .batch = {.tokens = tokens,
                                 .sequences = sequences,
                                 .position = ints(position),
                                 .sequence_of = ints(sequence_of),
                                 .query_start = ints(start),
                                 .context_length = ints(length),
                                 .block_table = Tensor(table.data(), DType::kI32, {sequences, kBlocksPerSequence})},
                       .kv = kv_.layers(),
                       .logit_row = ints(index).Rows(0, rows),
                       .logits = Tensor(logits.data(), DType::kF32, {rows, vocab_})};
    if (last) {
      input.last = LastRowsOf(input.batch, ints(last_row), ints(last_position), ints(index).Rows(0, sequences + 1));
    }
    decoder_->Forward(input);
    EXPECT_TRUE(ops_->Sync().ok());
    std::vector<std::vector<float>> result;
    for (int i = 0; i < rows; ++i) result.emplace_back(logits.begin() + i * vocab_, logits.begin() + (i + 1) * vocab_);
    return result;
  }

 private:
  const int vocab_;
  std::unique_ptr<kernels::Ops> ops_;
  runtime::KvCache kv_;
  std::unique_ptr<Decoder> decoder_;
};

std::vector<int32_t> RandomTokens(int count, unsigned seed, int vocab = 160) {
  std::mt19937 random(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(random() % vocab);
  return tokens;
}

std::vector<int32_t> Slice(const std::vector<int32_t>& tokens, int begin, int count) {
  return {tokens.begin() + begin, tokens.begin() + begin + count};
}

TEST(DecoderTest, DecodingOneByOneEqualsPrefill) {
  TinyModel model;
  const std::vector<int32_t> tokens = RandomTokens(140, 2);
  const auto whole = Harness(model).Run({{.tokens = tokens}});
  Harness harness(model);
  for (int i = 0; i < 140; ++i) {
    ASSERT_EQ(harness.Run({{.position = i, .tokens = {tokens[i]}}}).at(0), whole[i]) << "position " << i;
  }
}

TEST(DecoderTest, ChunkedPrefillEqualsWhole) {
  TinyModel model;
  const std::vector<int32_t> tokens = RandomTokens(200, 3);
  const auto whole = Harness(model).Run({{.tokens = tokens}});
  for (int size : {7, 63, 64, 65, 128}) {
    Harness harness(model);
    std::vector<std::vector<float>> chunked;
    for (int at = 0; at < 200; at += size) {
      const int count = std::min(size, 200 - at);
      for (auto& logits : harness.Run({{.position = at, .tokens = Slice(tokens, at, count)}}))
        chunked.push_back(std::move(logits));
    }
    EXPECT_EQ(chunked, whole) << "chunks of " << size;
  }
}

TEST(DecoderTest, BatchedEqualsSingle) {
  TinyModel model;
  Harness batched(model, {.threads = 2});
  std::vector<Chunk> prompts, decodes;
  for (int s = 0; s < kMaxSequences; ++s) prompts.push_back({.sequence = s, .tokens = RandomTokens(1 + s * 4, 10 + s)});
  const auto prompt_logits = batched.Run(prompts);
  // Half of the sequences decode while the other half takes a second chunk.
  for (int s = 0; s < kMaxSequences; ++s) {
    decodes.push_back({.sequence = s, .position = 1 + s * 4, .tokens = RandomTokens(s % 2 == 0 ? 1 : 9, 50 + s)});
  }
  const auto decode_logits = batched.Run(decodes);
  auto prompt_at = prompt_logits.begin(), decode_at = decode_logits.begin();
  for (int s = 0; s < kMaxSequences; ++s) {
    Harness single(model);
    for (const auto& logits : single.Run({prompts[s]})) ASSERT_EQ(logits, *prompt_at++) << "sequence " << s;
    for (const auto& logits : single.Run({decodes[s]})) ASSERT_EQ(logits, *decode_at++) << "sequence " << s;
  }
}

// A chunk in the middle of a prompt, a whole prompt and a decode row, then the next token of each.
TEST(DecoderTest, ALastLayerThatKeepsLastRowsChangesNothing) {
  TinyModel plain, parallel;
  for (LayerSpec& layer : parallel.spec.layers) layer.parallel = true;
  for (TinyModel* model : {&plain, &parallel}) {
    const std::vector<Chunk> chunks = {{.sequence = 0, .tokens = RandomTokens(1, 30)},
                                       {.sequence = 1, .tokens = RandomTokens(70, 31)},
                                       {.sequence = 2, .tokens = RandomTokens(9, 32)}};
    const std::vector<Chunk> next = {{.sequence = 0, .position = 1, .tokens = {3}},
                                     {.sequence = 1, .position = 70, .tokens = {4, 5}},
                                     {.sequence = 2, .position = 9, .tokens = {6}}};
    Harness whole(*model), kept(*model);
    const auto all = whole.Run(chunks);
    EXPECT_EQ(kept.Run(chunks, /*last=*/true), (std::vector{all[0], all[70], all[79]}));
    EXPECT_EQ(kept.Run(next), whole.Run(next)) << "the cache has every row";
  }
}

TEST(DecoderTest, WhatABlockHeldBeforeDoesNotMatter) {
  TinyModel model;
  const std::vector<Chunk> chunks = {{.sequence = 0, .tokens = RandomTokens(70, 4)},
                                     {.sequence = 1, .tokens = RandomTokens(3, 5)}};
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    EXPECT_EQ(Harness(model, {.kv_dtype = dtype, .poison = true}).Run(chunks), Harness(model, {.kv_dtype = dtype}).Run(chunks))
        << "dtype " << static_cast<int>(dtype);
  }
}

TEST(DecoderTest, NarrowCachesStayClose) {
  TinyModel model;
  const std::vector<Chunk> chunk = {{.tokens = RandomTokens(100, 6)}};
  const auto want = Harness(model).Run(chunk);
  for (auto [dtype, tolerance] : {std::pair{DType::kF16, 0.02f}, {DType::kBF16, 0.15f}}) {
    const auto got = Harness(model, {.kv_dtype = dtype}).Run(chunk);
    EXPECT_NE(got, want);
    for (size_t i = 0; i < want.size(); ++i) EXPECT_THAT(got[i], Pointwise(testing::FloatNear(tolerance), want[i]));
  }
}

// Changing anything that a model file can say changes what comes out.
TEST(DecoderTest, EveryFieldAndWeightReachesTheLogits) {
  const std::vector<Chunk> chunk = {{.tokens = RandomTokens(20, 7)}};
  TinyModel plain;
  const auto want = Harness(plain).Run(chunk);
  const auto each_layer = [](void (*change)(LayerSpec&)) {
    return [change](TinyModel& model) { change(model.spec.layers[1]); };
  };
  const auto add_to = [](kernels::Tensor tensor) { tensor.data<float>()[0] += 1; };
  const std::vector<std::pair<std::string, std::function<void(TinyModel&)>>> changes = {
      {"embed_scale", [](TinyModel& m) { m.spec.embed_scale = 2; }},
      {"logit_scale", [](TinyModel& m) { m.spec.logit_scale = 2; }},
      {"logit_softcap", [](TinyModel& m) { m.spec.logit_softcap = 2; }},
      {"attention scale", each_layer([](LayerSpec& l) { l.attention.scale = 0.5; })},
      {"window", each_layer([](LayerSpec& l) { l.attention.window = 3; })},
      {"attention softcap", each_layer([](LayerSpec& l) { l.attention.softcap = 0.5; })},
      {"clip", each_layer([](LayerSpec& l) { l.attention.clip = 0.5; })},
      {"theta", each_layer([](LayerSpec& l) { l.attention.rope.theta = 100; })},
      {"rotary_dim", each_layer([](LayerSpec& l) { l.attention.rope.rotary_dim = 8; })},
      {"no rotation", each_layer([](LayerSpec& l) { l.attention.rope.rotary_dim = 0; })},
      {"activation", each_layer([](LayerSpec& l) { l.mlp.activation = kernels::Activation::kGelu; })},
      {"attention norm", [&](TinyModel& m) { add_to(m.weights.layers[1].attention_norm.weight); }},
      {"qkv bias", [&](TinyModel& m) { add_to(m.weights.layers[1].qkv_bias); }},
      {"q norm", [&](TinyModel& m) { add_to(m.weights.layers[1].q_norm.weight); }},
      {"k norm", [&](TinyModel& m) { add_to(m.weights.layers[1].k_norm.weight); }},
      {"attention out", [](TinyModel& m) { *TinyModel::Row(m.weights.layers[1].attention_out, 0) += 1; }},
      {"attention out bias", [&](TinyModel& m) { add_to(m.weights.layers[1].attention_out_bias); }},
      {"mlp norm", [&](TinyModel& m) { add_to(m.weights.layers[1].mlp_norm.weight); }},
      {"mlp up bias", [&](TinyModel& m) { add_to(m.weights.layers[1].mlp_up_bias); }},
      {"mlp down bias", [&](TinyModel& m) { add_to(m.weights.layers[1].mlp_down_bias); }},
      {"final norm", [&](TinyModel& m) { add_to(m.weights.final_norm.weight); }},
      {"head bias", [&](TinyModel& m) { add_to(m.weights.head_bias); }},
  };
  for (const auto& [name, change] : changes) {
    TinyModel model;
    change(model);
    EXPECT_NE(Harness(model).Run(chunk).back(), want.back()) << name;
  }
}

TEST(DecoderTest, LayersMayDifferInShape) {
  TinyModel model({.layers = 1}), wide({.layers = 1, .q_heads = 6, .kv_heads = 3, .intermediate = 80, .seed = 9});
  model.spec.layers.push_back(wide.spec.layers[0]);
  model.weights.layers.push_back(wide.weights.layers[0]);
  const std::vector<int32_t> tokens = RandomTokens(70, 8);
  const auto whole = Harness(model).Run({{.tokens = tokens}});
  Harness harness(model, {.poison = true});
  harness.Run({{.tokens = Slice(tokens, 0, 69)}});
  EXPECT_EQ(harness.Run({{.position = 69, .tokens = {tokens[69]}}}).back(), whole.back());
}

TEST(RopeTableTest, Plain) {
  EXPECT_THAT(InverseFrequencies({.rotary_dim = 8, .theta = 10000}), Pointwise(FloatEq(), {1.f, 0.1f, 0.01f, 0.001f}));
  EXPECT_TRUE(InverseFrequencies({}).empty());
}

TEST(RopeTableTest, LinearDividesEveryFrequency) {
  EXPECT_THAT(InverseFrequencies({.rotary_dim = 4, .theta = 100, .scaling = RopeScaling::kLinear, .factor = 4}),
              Pointwise(FloatEq(), {0.25f, 0.025f}));
}

// Values of transformers' _compute_llama3_parameters for Llama 3.1's config at every eighth pair.
TEST(RopeTableTest, Llama3EqualsHuggingFace) {
  const std::vector<float> table = InverseFrequencies({.rotary_dim = 128,
                                                       .theta = 500000,
                                                       .scaling = RopeScaling::kLlama3,
                                                       .factor = 8,
                                                       .low_frequency_factor = 1,
                                                       .high_frequency_factor = 4,
                                                       .original_max_position = 8192});
  ASSERT_EQ(table.size(), 64u);
  std::vector<float> sampled;
  for (size_t i = 0; i < table.size(); i += 8) sampled.push_back(table[i]);
  const std::vector<float> want = {
      1.f, 0.193922758f, 0.0376060307f, 0.00729266508f, 0.000524846022f, 3.42810235e-05f, 6.64786967e-06f, 1.28917316e-06f};
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(sampled[i], want[i], 1e-6f * want[i]) << i;
}

}  // namespace
}  // namespace berth::model
