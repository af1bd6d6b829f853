#include <algorithm>
#include <fstream>
#include <iostream>
#include <string>
#include <tuple>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "clients/cli/parse_line.h"
#include "kernels/cuda/tune.h"
#include "worker/loader/model_files.h"
#include "worker/loader/slot_members.h"

namespace berth::cli {
namespace {

constexpr int64_t kMostLogitRows = 1024;  // sequences active at once

struct Flags {
  std::vector<std::string> models;
  std::string output;
  kernels::TuneOptions tune;
};

// The products of a model's layers and head, each shape once.
absl::Status AddShapes(const std::string& path, std::vector<kernels::ProductShape>& shapes) {
  BERTH_ASSIGN_OR_RETURN(const loader::ModelFiles files, loader::OpenModel(path, loader::LoadFormat::kRandom));
  return loader::ForEachSlot(files.spec, [&](model::Slot slot, int layer, const model::SlotShape& shape) {
    using model::Slot;
    if (slot != Slot::kQkv && slot != Slot::kAttentionOut && slot != Slot::kMlpUp && slot != Slot::kMlpDown &&
        slot != Slot::kHead) {
      return absl::OkStatus();
    }
    kernels::ProductShape product{.out = kernels::DType::kBF16, .n = shape.rows(), .k = shape.columns};
    product.accumulate = slot == Slot::kAttentionOut || slot == Slot::kMlpDown;
    if (slot == Slot::kHead) {
      product.out = kernels::DType::kF32;
      product.most_tokens = kMostLogitRows;
    }
    const auto same = [&](const kernels::ProductShape& other) {
      return std::tie(other.out, other.n, other.k) == std::tie(product.out, product.n, product.k);
    };
    if (std::none_of(shapes.begin(), shapes.end(), same)) shapes.push_back(product);
    return absl::OkStatus();
  });
}

absl::Status Run(const Flags& flags) {
  std::vector<kernels::ProductShape> shapes;
  for (const std::string& path : flags.models) BERTH_RETURN_IF_ERROR(AddShapes(path, shapes));
  int timed = 0, changed = 0;
  const auto on_timing = [&](const kernels::ProductTiming& timing) {
    ++timed;
    if (!timing.changed) return;
    ++changed;
    std::cerr << absl::StrFormat("n %d, k %d, %d tokens: %.1f us instead of %.1f\n", timing.shape.n, timing.shape.k,
                                 timing.tokens, timing.best, timing.now);
  };
  BERTH_ASSIGN_OR_RETURN(const std::vector<kernels::TunedProduct> table, kernels::TuneProducts(shapes, flags.tune, on_timing));
  std::cerr << changed << " of " << timed << " products change; the table had " << kernels::TunedProducts().size()
            << " lines and has " << table.size() << "\n";
  std::ofstream file(flags.output);
  file << kernels::FormatTunedProducts(table) << std::flush;
  if (!file) return absl::UnavailableError(absl::StrCat("cannot write ", flags.output));
  return absl::OkStatus();
}

}  // namespace
}  // namespace berth::cli

// berth-tune: measures the products of models' shapes on a GPU and writes kernels/tuned_products_table.cc.
int main(int argc, char** argv) {
  berth::cli::Flags flags;
  CLI::App app("Chooses the algorithms of matrix products by measuring them on a GPU");
  app.footer(berth::cli::kExitCodes);
  app.add_option("model", flags.models, "Directories with a config.json, whose shapes are measured")->required();
  app.add_option("--output", flags.output, "The table: kernels/tuned_products_table.cc of the sources")->required();
  app.add_option("--gpu", flags.tune.device, "Which GPU")->capture_default_str();
  app.add_option("--proposals", flags.tune.proposals, "cuBLASLt's, measured for every shape")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  if (const auto code = berth::cli::ParseLine(app, argc, argv)) return *code;
  return berth::cli::ExitCode(berth::cli::Run(flags));
}
