#include "kernels/cuda/cuda_ops.h"

#include <cmath>
#include <vector>

#include "tests/kernels/cuda/twin_tensors.h"

namespace berth::kernels {
namespace {

using CudaOpsTest = TwinTensors;

TEST_P(CudaOpsTest, MlpAndProjectionsMatchTheCpu) {
  for (const int64_t rows : {1, 7, 130}) {
    for (const bool everything : {false, true}) {
      const int64_t hidden = 320, inter = 448;
      Twin &residual = Values({rows, hidden}), &up = Values({2 * inter, hidden}, 0.06f), &out = Values({rows, inter});
      Twin &down = Values({hidden, inter}, 0.05f), &post = Values({rows, hidden});
      const Twin &norm = Floats({hidden}, 1, 0.1f), &bias = Floats({2 * inter}, 0, 0.2f),
                 &down_bias = Floats({hidden}, 0, 0.2f);
      const auto run = [&](Ops& ops, auto side) {
        MlpUpArgs args{
            .residual = side(residual), .norm = {.weight = side(norm)}, .weight = WeightOf(side(up)), .out = side(out)};
        if (everything) {
          args.bias = side(bias);
          args.activation = Activation::kGeluTanh;
        }
        ops.MlpUp(args);
      };
      RunBoth(run);
      ExpectClose(out, Tolerance());
      Twin& in = Values({rows, inter});
      const auto project = [&](Ops& ops, auto side) {
        ProjectOutArgs args{.in = side(in), .weight = WeightOf(side(down)), .residual = side(post)};
        if (everything) {
          args.bias = side(down_bias);
          args.post_norm = {.weight = side(norm)};
          args.scale = 0.5f;
        }
        ops.MlpDown(args);
      };
      RunBoth(project);
      ExpectClose(post, Tolerance());
    }
  }
}

// Of rows of images alone, of some and of none beside text.
TEST_P(CudaOpsTest, AdaptersOnRowsOfImagesMatchTheCpu) {
  for (const int64_t rank : {48, 64}) {
    for (const std::vector<int32_t>& images : {std::vector<int32_t>{0}, {6, 1, 3}, {128, 5}}) {
      const int64_t rows = images.size() == 1 ? 1 : images[0] + 2, hidden = 320, inter = 448;
      Twin &residual = Values({rows, hidden}), &up = Values({2 * inter, hidden}, 0.06f), &out = Values({rows, inter});
      Twin &in = Values({rows, inter}), &down = Values({hidden, inter}, 0.05f), &sum = Values({rows, hidden});
      const Twin &norm = Floats({hidden}, 1, 0.1f), &row = Ints(images), &up_a = Values({2 * rank, hidden}, 0.06f),
                 &up_b = Values({2 * inter, rank}, 0.2f), &down_a = Values({rank, inter}, 0.05f),
                 &down_b = Values({hidden, rank}, 0.2f);
      RunBoth([&](Ops& ops, auto side) {
        ops.MlpUp({.residual = side(residual),
                   .norm = {.weight = side(norm)},
                   .weight = WeightOf(side(up)),
                   .adapter = {.down = WeightOf(side(up_a)), .up = WeightOf(side(up_b)), .row = side(row)},
                   .out = side(out)});
        ops.MlpDown({.in = side(in),
                     .weight = WeightOf(side(down)),
                     .adapter = {.down = WeightOf(side(down_a)), .up = WeightOf(side(down_b)), .row = side(row)},
                     .residual = side(sum)});
      });
      ExpectClose(out, 1.5 * Tolerance());  // what is between the two matrices is rounded, too
      ExpectClose(sum, 1.5 * Tolerance());
    }
  }
}

// Without a norm, so that both sides route by the same numbers.
TEST_P(CudaOpsTest, MixturesOfExpertsMatchTheCpu) {
  const Routing routings[] = {
      {.experts = 16, .top_k = 4},
      {.experts = 6, .top_k = 2, .renormalize = true, .scale = 2},
      {.experts = 16, .top_k = 3, .score = RouterScore::kSigmoid, .groups = 4, .top_groups = 2, .group_best = 2}};
  for (const Routing& routing : routings) {
    for (const int64_t rows : {1, 7, 130}) {
      const int64_t hidden = 136, inter = 104, experts = routing.experts;
      Twin &residual = Values({rows, hidden}), &router = Values({experts, hidden}, 0.1f);
      Twin &up = Values({2 * experts * inter, hidden}, 0.09f), &down = Values({experts * hidden, inter}, 0.1f);
      const Twin& bias = Floats({experts}, 0, 0.2f);
      const auto run = [&](Ops& ops, auto side) {
        ops.Moe({.residual = side(residual),
                 .router = WeightOf(side(router)),
                 .router_bias = routing.score == RouterScore::kSigmoid ? side(bias) : Tensor(),
                 .routing = routing,
                 .up = WeightOf(side(up)),
                 .down = WeightOf(side(down))});
      };
      RunBoth(run);
      ExpectClose(residual, Tolerance());
    }
  }
}

TEST_P(CudaOpsTest, ARowsGateMatchesTheCpu) {
  const int64_t rows = 9, hidden = 320, inter = 448;
  Twin &residual = Values({rows, hidden}), &up = Values({2 * inter, hidden}, 0.06f), &gate = Values({1, hidden}, 0.06f),
       &out = Values({rows, inter});
  const auto run = [&](Ops& ops, auto side) {
    ops.MlpUp({.residual = side(residual), .weight = WeightOf(side(up)), .row_gate = WeightOf(side(gate)), .out = side(out)});
  };
  RunBoth(run);
  ExpectClose(out, Tolerance());
}

TEST_P(CudaOpsTest, EmbedGatherAndHeadMatchTheCpu) {
  const int64_t hidden = 256, vocab = 1000;
  Twin &table = Values({vocab, hidden}, 0.1f), &out = Values({5, hidden}), &gathered = Values({3, hidden}),
       &logits = Make(DType::kF32, DType::kF32, {3, vocab});
  const Twin &token = Ints({0, 999, kNoToken, 7, 500}), &row = Ints({4, 0, 2}), &norm = Floats({hidden}, 1, 0.1f);
  const auto run = [&](Ops& ops, auto side) {
    ops.Embed({.token = side(token), .table = WeightOf(side(table)), .scale = 2, .out = side(out)});
    ops.Gather({.in = side(out), .row = side(row), .out = side(gathered)});
    ops.Head({.residual = side(out),
              .row = side(row),
              .norm = {.weight = side(norm)},
              .weight = WeightOf(side(table)),
              .scale = 0.5f,
              .softcap = 20,
              .logits = side(logits)});
  };
  RunBoth(run);
  ExpectClose(out, Tolerance());
  ExpectClose(gathered, Tolerance());
  ExpectClose(logits, Tolerance());
}

TEST_P(CudaOpsTest, PoolMatchesTheCpu) {
  const int64_t hidden = 300;
  const Twin &in = Values({9, hidden}), &norm = Floats({hidden}, 1, 0.1f);
  Twin& sum = Make(DType::kF32, DType::kF32, {4, hidden});
  const Twin &begin = Ints({0, 4}), &end = Ints({4, 9}), &slot = Ints({3, 1}), &fresh = Ints({1, 1}), &more = Ints({0, 0});
  const auto run = [&](Ops& ops, auto side) {
    for (const Twin* first : {&fresh, &more}) {
      ops.Pool({.residual = side(in),
                .norm = {.weight = side(norm)},
                .begin = side(begin),
                .end = side(end),
                .slot = side(slot),
                .fresh = side(*first),
                .sum = side(sum)});
    }
  };
  Upload(sum);
  RunBoth(run);
  ExpectClose(sum, Tolerance());
}

INSTANTIATE_TEST_SUITE_P(Types, CudaOpsTest, kDeviceTypes, DeviceTypeName);

TEST(CudaDeviceTest, ADeviceThatDoesNotExistIsNamed) {
  const auto made = MakeCudaOps({.device = 99, .max_tokens = 1, .max_hidden = 8, .max_product = 8});
  EXPECT_TRUE(absl::IsFailedPrecondition(made.status())) << made.status();
}

}  // namespace
}  // namespace berth::kernels
