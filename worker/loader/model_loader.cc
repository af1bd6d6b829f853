#include "worker/loader/model_loader.h"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/hash.h"
#include "base/status.h"
#include "worker/loader/load_plan.h"
#include "worker/loader/materialize.h"
#include "worker/loader/model_files.h"

namespace berth::loader {
namespace {

// Rises when the numbers that equal weights give change.
constexpr uint64_t kNumericsVersion = 1;
constexpr size_t kSampleBytes = 64;

uint64_t HashBytes(absl::Span<const std::byte> bytes, uint64_t seed) {
  return base::Hash64({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, seed);
}

// Reads little of each tensor: its two ends and its middle.
uint64_t Fingerprint(const ModelFiles& files) {
  uint64_t hash = base::HashCombine(files.metadata_hash, kNumericsVersion);
  for (const TensorInfo& tensor : files.checkpoint.tensors) {
    hash =
        base::Hash64(absl::StrFormat("%s %s%s", tensor.name, kernels::Info(tensor.dtype).name, ShapeText(tensor.shape)), hash);
    const size_t size = std::min(kSampleBytes, tensor.data.size());
    for (const size_t begin : {size_t{0}, (tensor.data.size() - size) / 2, tensor.data.size() - size}) {
      hash = HashBytes(tensor.data.subspan(begin, size), hash);
    }
  }
  return hash;
}

absl::StatusOr<ModelFiles> Open(const std::string& path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) return absl::NotFoundError(absl::StrCat("there is no file or directory ", path));
  if (std::filesystem::is_directory(status)) return OpenHfDirectory(path);
  if (std::filesystem::path(path).extension() == ".safetensors") {
    return absl::InvalidArgumentError(absl::StrCat(path, ": give the directory that holds it and config.json"));
  }
  return OpenGgufModel(path);
}

std::string NameOf(const std::string& path) {
  const std::filesystem::path file = std::filesystem::absolute(path).lexically_normal();
  const std::string name = (file.has_filename() ? file : file.parent_path()).filename().string();
  return file.extension() == ".gguf" ? name.substr(0, name.size() - 5) : name;
}

}  // namespace

absl::StatusOr<LoadedModel> LoadModel(const std::string& path) {
  BERTH_ASSIGN_OR_RETURN(ModelFiles files, Open(path));
  for (const auto& file : files.checkpoint.files) file->WillNeed();

  absl::StatusOr<LoadPlan> plan = BuildPlan(files.spec, files.rules, files.checkpoint.tensors, Shard{});
  if (!plan.ok()) return absl::Status(plan.status().code(), absl::StrCat(path, ": ", plan.status().message()));
  absl::StatusOr<MaterializedWeights> weights =
      Materialize(files.spec, *plan, files.checkpoint.tensors, kernels::HostAllocator());
  if (!weights.ok()) return absl::Status(weights.status().code(), absl::StrCat(path, ": ", weights.status().message()));

  LoadedModel model{.name = NameOf(path), .fingerprint = Fingerprint(files)};
  model.spec = std::move(files.spec);
  model.weights = std::move(weights->weights);
  model.tokenizer = std::move(files.tokenizer);
  model.generation = files.generation;
  model.memory = std::move(weights->memory);
  model.memory.insert(model.memory.end(), files.checkpoint.files.begin(), files.checkpoint.files.end());
  return model;
}

}  // namespace berth::loader
