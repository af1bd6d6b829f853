#include <algorithm>
#include <fstream>
#include <iostream>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/cpu/cpu_ops.h"
#include "worker/loader/model_loader.h"
#include "worker/model/decoder.h"
#include "worker/model/tensor_arena.h"
#include "worker/runtime/gpu.h"
#include "worker/runtime/kv_cache.h"
#include "worker/runtime/model_runner.h"

// The logits at every position of one given text, for the checks beside this file.

namespace berth::runtime {
namespace {

using kernels::DType;
using kernels::Tensor;

struct Flags {
  std::string model, tokens, out;
  std::string device = "cuda", dtype = "bfloat16";
  std::vector<std::string> ways = {"whole", "chunks", "steps"};
  bool generic = false, batch_invariant = false, random = false;
  int threads = 16;
};

// Steps of these sizes, over and over.
constexpr int kOddChunks[] = {1, 67, 300, 5, 129, 64, 63, 31, 2, 250};

absl::StatusOr<std::vector<int32_t>> ReadTokens(const std::string& path, int vocab) {
  std::ifstream file(path);
  std::vector<int32_t> tokens;
  for (int32_t token = 0; file >> token;) {
    if (token < 0 || token >= vocab) return absl::InvalidArgumentError(absl::StrCat(path, ": token ", token, " of ", vocab));
    tokens.push_back(token);
  }
  if (tokens.empty()) return absl::InvalidArgumentError(absl::StrCat(path, " has no tokens"));
  return tokens;
}

class Scorer {
 public:
  Scorer(const model::DecoderSpec& spec, const model::DecoderWeights& weights, RunnerDevice& device, DType dtype,
         std::vector<int32_t> tokens)
      : spec_(spec),
        weights_(weights),
        ops_(*device.ops),
        dtype_(dtype),
        tokens_(std::move(tokens)),
        memory_(device.memory == nullptr ? kernels::HostAllocator() : *device.memory),
        staging_(device.staging == nullptr ? kernels::HostAllocator() : *device.staging) {}

  // Of every position; f32 [tokens, vocab] in host memory.
  absl::StatusOr<kernels::Buffer> Score(const std::string& way) {
    BERTH_ASSIGN_OR_RETURN(kernels::Buffer logits, staging_.Allocate(sizeof(float) * tokens_.size() * spec_.vocab));
    if (way == "steps") {
      BERTH_RETURN_IF_ERROR(Step(static_cast<float*>(logits.data())));
    } else if (way == "whole") {
      BERTH_RETURN_IF_ERROR(Prefill({length()}, static_cast<float*>(logits.data())));
    } else if (way == "chunks") {
      BERTH_RETURN_IF_ERROR(Prefill({std::begin(kOddChunks), std::end(kOddChunks)}, static_cast<float*>(logits.data())));
    } else {
      return absl::InvalidArgumentError(absl::StrCat("\"", way, "\" is no way, want whole, chunks or steps"));
    }
    return logits;
  }

 private:
  int length() const { return static_cast<int>(tokens_.size()); }
  int blocks() const { return (length() + kernels::kKvBlockTokens - 1) / kernels::kKvBlockTokens; }

  // The decoder alone, which is asked for the logits of all rows.
  absl::Status Prefill(const std::vector<int>& chunks, float* out) {
    BERTH_ASSIGN_OR_RETURN(const auto decoder,
                           model::Decoder::Create(spec_, weights_, ops_, memory_, {.max_tokens = length(), .dtype = dtype_}));
    BERTH_ASSIGN_OR_RETURN(const KvCache kv, KvCache::Create(spec_, dtype_, blocks(), memory_));
    Tensor token, row, sequence, start, context, table, logits;
    BERTH_ASSIGN_OR_RETURN(const kernels::Buffer buffer,
                           model::AllocateTensors(memory_, {{&token, DType::kI32, 1, length()},
                                                            {&row, DType::kI32, 1, length()},
                                                            {&sequence, DType::kI32, 1, length()},
                                                            {&start, DType::kI32, 1, 2},
                                                            {&context, DType::kI32, 1, 1},
                                                            {&table, DType::kI32, 1, blocks()},
                                                            {&logits, DType::kF32, length(), spec_.vocab}}));
    std::vector<int32_t> count(length());
    std::iota(count.begin(), count.end(), 0);
    Put(token, tokens_);
    Put(row, count);
    Put(table, count);
    const auto part = [](const Tensor& tensor, int begin, int size) {
      return Tensor(tensor.data<int32_t>() + begin, DType::kI32, {size});
    };
    for (int begin = 0, i = 0; begin < length(); ++i) {
      const int size = std::min(chunks[i % chunks.size()], length() - begin), end = begin + size;
      Put(start, std::vector<int32_t>{0, size});
      Put(context, std::vector<int32_t>{end});
      decoder->Forward({.token = part(token, begin, size),
                        .batch = {.tokens = size,
                                  .sequences = 1,
                                  .decode_sequences = size == 1 ? 1 : 0,
                                  .max_context = end,
                                  .position = part(row, begin, size),
                                  .sequence_of = part(sequence, 0, size),
                                  .query_start = part(start, 0, 2),
                                  .context_length = part(context, 0, 1),
                                  .block_table = table},
                        .kv = kv.layers(),
                        .logit_row = part(row, 0, size),
                        .logits = logits.Rows(begin, size)});
      BERTH_RETURN_IF_ERROR(ops_.Sync());
      begin = end;
    }
    ops_.Download(out, logits.raw(), sizeof(float) * length() * spec_.vocab);
    return ops_.Sync();
  }

  // A runner that is given one token a step, which it computes by its recordings.
  absl::Status Step(float* out) {
    const RunnerOptions options{
        .slots = 1, .dtype = dtype_, .kv_dtype = dtype_, .max_step_tokens = 1, .max_length = length(), .depth = 1};
    BERTH_ASSIGN_OR_RETURN(const auto runner,
                           ModelRunner::Create({spec_, weights_, spec_.vocab}, options, ops_, {memory_, staging_}));
    BERTH_RETURN_IF_ERROR(runner->ReserveKv(blocks(), memory_));
    BERTH_RETURN_IF_ERROR(runner->RecordDecodeSteps());
    for (int i = 0; i < length(); ++i) {
      engine::StepPlanBuilder plan(i + 1);
      if (i == 0) {
        const engine::SequenceSpec greedy{.prompt_length = 1, .sampling = {.temperature = 0}};
        plan.Admit({.slot = 0, .generation = 1}, greedy, {tokens_[0]});
      }
      if (i % kernels::kKvBlockTokens == 0) {
        plan.Block({.slot = 0, .index = i / kernels::kKvBlockTokens, .block = i / kernels::kKvBlockTokens});
      }
      plan.Row({.slot = 0, .generation = 1, .position = i, .count = 1, .sample = 1}, {tokens_[i]});
      BERTH_RETURN_IF_ERROR(runner->Submit(plan.Build()));
      ops_.Download(out + static_cast<int64_t>(i) * spec_.vocab, runner->logits().raw(), sizeof(float) * spec_.vocab);
      BERTH_RETURN_IF_ERROR(runner->Await().status());
    }
    return ops_.Sync();
  }

  void Put(const Tensor& tensor, const std::vector<int32_t>& values) {
    ops_.Upload(tensor.raw(), values.data(), sizeof(int32_t) * std::min<size_t>(values.size(), tensor.elements()));
    ops_.Sync().IgnoreError();  // the values go
  }

  const model::DecoderSpec& spec_;
  const model::DecoderWeights& weights_;
  kernels::Ops& ops_;
  const DType dtype_;
  const std::vector<int32_t> tokens_;
  kernels::Allocator &memory_, &staging_;
};

absl::Status Run(const Flags& flags) {
  GpuOptions options{.dtype = flags.dtype == "float16" ? DType::kF16 : DType::kBF16,
                     .generic_kernels = flags.generic,
                     .batch_invariant = flags.batch_invariant,
                     .slots = 1};
  loader::LoadOptions load{.format = flags.random ? loader::LoadFormat::kRandom : loader::LoadFormat::kCheckpoint, .seed = 1};
  std::unique_ptr<kernels::WeightUploader> uploader;
  const bool on_gpu = flags.device == "cuda";
  if (on_gpu) {
    BERTH_ASSIGN_OR_RETURN(uploader, MakeGpuUploader(options));
    load.uploader = uploader.get();
  }
  BERTH_ASSIGN_OR_RETURN(const loader::LoadedModel model, loader::LoadModel(flags.model, load));
  uploader.reset();
  BERTH_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens, ReadTokens(flags.tokens, model.spec.vocab));
  options.max_step_tokens = static_cast<int>(tokens.size());
  RunnerDevice device;
  if (on_gpu) {
    BERTH_ASSIGN_OR_RETURN(device, OpenGpu(model.spec, options));
  } else {
    device.ops = kernels::MakeCpuOps({.threads = flags.threads});
  }
  Scorer scorer(model.spec, model.weights, device, on_gpu ? options.dtype : DType::kF32, tokens);
  for (const std::string& way : flags.ways) {
    BERTH_ASSIGN_OR_RETURN(const kernels::Buffer logits, scorer.Score(way));
    const std::string path = absl::StrCat(flags.out, ".", way);
    std::ofstream file(path, std::ios::binary);
    file.write(static_cast<const char*>(logits.data()), static_cast<std::streamsize>(logits.bytes()));
    if (!file.flush()) return absl::InternalError(absl::StrCat("cannot write ", path));
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace berth::runtime

int main(int argc, char** argv) {
  berth::runtime::Flags flags;
  CLI::App app("Writes the logits at every position of a text, f32 [tokens, vocab], to OUT.WAY");
  app.add_option("model", flags.model, "GGUF file or Hugging Face directory")->required();
  app.add_option("tokens", flags.tokens, "File of token ids, apart by blanks")->required();
  app.add_option("out", flags.out, "Name of the output files, without the way")->required();
  app.add_option("--device", flags.device, "cuda or cpu")->check(CLI::IsMember({"cuda", "cpu"}))->capture_default_str();
  app.add_option("--dtype", flags.dtype, "Of weights, activations and KV on the GPU: bfloat16 or float16")
      ->check(CLI::IsMember({"bfloat16", "float16"}))
      ->capture_default_str();
  app.add_option("--ways", flags.ways, "whole: in one step; chunks: in steps of odd sizes; steps: by recorded decode steps")
      ->delimiter(',');
  app.add_flag("--generic", flags.generic, "Only kernels that run on every GPU");
  app.add_flag("--random", flags.random, "Weights of no checkpoint: the directory needs only a config.json");
  app.add_flag("--batch-invariant", flags.batch_invariant, "Equal bits in all ways");
  app.add_option("--cpu-threads", flags.threads)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  if (const absl::Status status = berth::runtime::Run(flags); !status.ok()) {
    std::cerr << status << "\n";
    return 1;
  }
  return 0;
}
