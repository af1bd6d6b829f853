#include "worker/loader/model_loader.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/hash.h"
#include "base/status.h"
#include "kernels/cpu/upload.h"
#include "kernels/tuned_products.h"
#include "worker/loader/device_weights.h"
#include "worker/loader/load_plan.h"
#include "worker/loader/materialize.h"
#include "worker/loader/model_files.h"
#include "worker/loader/weight_checksum.h"
#include "worker/text/tokenizer.h"

namespace berth::loader {
namespace {

// Rises when the numbers that equal weights give change.
constexpr uint64_t kNumericsVersion = 5;
constexpr size_t kSampleBytes = 64;

uint64_t HashBytes(absl::Span<const std::byte> bytes, uint64_t seed) {
  return base::Hash64({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, seed);
}

// The checkpoint's weights where its files have them, and then wherever the uploader brings them.
absl::StatusOr<MaterializedWeights> BringWeights(const ModelFiles& files, const LoadOptions& options) {
  // Beside all else: of a file that is in memory already it takes a microsecond a megabyte.
  const std::jthread read_ahead([&files] {
    for (const auto& file : files.checkpoint.files) WillNeed(file->bytes());
  });
  BERTH_ASSIGN_OR_RETURN(const LoadPlan plan, BuildPlan(files.spec, files.rules, files.checkpoint.tensors, Shard{}));
  BERTH_ASSIGN_OR_RETURN(MaterializedWeights weights,
                         Materialize(files.spec, plan, files.checkpoint.tensors, kernels::HostAllocator()));
  if (options.uploader != nullptr) {
    for (const auto& file : files.checkpoint.files) options.uploader->ReadFrom({file->path(), file->fd(), file->bytes()});
    return UploadWeights(files.spec, weights.weights, *options.uploader, options.progress, options.image_rows);
  }
  weights.memory.insert(weights.memory.end(), files.checkpoint.files.begin(), files.checkpoint.files.end());
  weights.memory.insert(weights.memory.end(), files.checkpoint.memory.begin(), files.checkpoint.memory.end());
  return weights;
}

absl::StatusOr<MaterializedWeights> LoadWeights(const ModelFiles& files, const LoadOptions& options) {
  BERTH_ASSIGN_OR_RETURN(MaterializedWeights weights, BringWeights(files, options));
  if (files.checkpoint.verifier == nullptr) return weights;
  // An uploader has told of these weights already.
  const Progress progress = options.uploader == nullptr ? options.progress : nullptr;
  BERTH_RETURN_IF_ERROR(files.checkpoint.verifier->Verify(options.uploader, progress));
  return weights;
}

absl::StatusOr<MaterializedWeights> MakeRandomWeights(const ModelFiles& files, const LoadOptions& options) {
  if (options.uploader != nullptr) return RandomWeights(files.spec, options.seed, *options.uploader, options.progress);
  const int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  const auto uploader = kernels::MakeCpuWeightUploader({.dtype = kernels::DType::kBF16, .threads = threads});
  return RandomWeights(files.spec, options.seed, *uploader, options.progress);
}

// Ids that the embedding lacks would be read from nowhere.
absl::Status CheckVocabulary(const text::TokenizerData& tokenizer, int vocab) {
  for (size_t id = vocab; id < tokenizer.pieces.size(); ++id) {
    if (tokenizer.pieces[id].empty()) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("the tokenizer's token \"%s\" has id %d, but vocab_size is %d", tokenizer.pieces[id], id, vocab));
  }
  for (const text::AddedToken& token : tokenizer.added_tokens) {
    if (token.id < vocab) continue;
    return absl::InvalidArgumentError(
        absl::StrFormat("the added token \"%s\" has id %d, but vocab_size is %d", token.content, token.id, vocab));
  }
  if (tokenizer.model != text::TokenizerData::Model::kSentencePiece) return absl::OkStatus();
  BERTH_ASSIGN_OR_RETURN(const std::unique_ptr<text::Tokenizer> made, text::MakeTokenizer(tokenizer));
  if (made->size() <= vocab) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrFormat("tokenizer.model has %d tokens, but vocab_size is %d", made->size(), vocab));
}

absl::StatusOr<ModelFiles> OpenAny(const std::string& path, LoadFormat format) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) return absl::NotFoundError(absl::StrCat("there is no file or directory ", path));
  if (std::filesystem::is_directory(status)) return OpenHfDirectory(path, format);
  if (format == LoadFormat::kRandom) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": random weights want a directory with a config.json"));
  }
  if (std::filesystem::path(path).extension() == ".safetensors") {
    return absl::InvalidArgumentError(absl::StrCat(path, ": give the directory that holds it and config.json"));
  }
  return OpenGgufModel(path);
}

}  // namespace

uint64_t Fingerprint(const ModelFiles& files) {
  uint64_t hash = base::HashCombine(files.metadata_hash, kNumericsVersion);
  hash = base::HashCombine(hash, kernels::TunedProductsDigest());
  for (const TensorInfo& tensor : files.checkpoint.tensors) {
    hash =
        base::Hash64(absl::StrFormat("%s %s%s", tensor.name, kernels::Info(tensor.dtype).name, ShapeText(tensor.shape)), hash);
    // Little of each tensor: its two ends and its middle.
    const size_t size = std::min(kSampleBytes, tensor.data.size());
    for (const size_t begin : {size_t{0}, (tensor.data.size() - size) / 2, tensor.data.size() - size}) {
      hash = HashBytes(tensor.data.subspan(begin, size), hash);
    }
  }
  return hash;
}

absl::StatusOr<ModelFiles> OpenModel(const std::string& path, LoadFormat format) {
  BERTH_ASSIGN_OR_RETURN(ModelFiles files, OpenAny(path, format));
  if (absl::Status status = CheckVocabulary(files.tokenizer, files.spec.vocab); !status.ok()) return InFile(path, status);
  return files;
}

std::string ModelName(const std::string& path) {
  const std::filesystem::path file = std::filesystem::absolute(path).lexically_normal();
  std::string name = (file.has_filename() ? file : file.parent_path()).filename().string();
  if (file.extension() != ".gguf") return name;
  name.resize(name.size() - 5);
  const size_t part = name.rfind("-00001-of-");  // the first of several files
  return part != std::string::npos && part + 15 == name.size() ? name.substr(0, part) : name;
}

absl::StatusOr<LoadedModel> LoadModel(const std::string& path, const LoadOptions& options) {
  BERTH_ASSIGN_OR_RETURN(ModelFiles files, OpenModel(path, options.format));
  return LoadModel(path, std::move(files), options);
}

absl::StatusOr<LoadedModel> LoadModel(const std::string& path, ModelFiles files, const LoadOptions& options) {
  if (options.accept) {
    if (absl::Status status = options.accept(files.spec); !status.ok()) return InFile(path, status);
  }
  const bool random = options.format == LoadFormat::kRandom;
  absl::StatusOr<MaterializedWeights> weights = random ? MakeRandomWeights(files, options) : LoadWeights(files, options);
  if (!weights.ok()) return InFile(path, weights.status());

  LoadedModel model{.name = files.name.empty() ? ModelName(path) : files.name, .fingerprint = Fingerprint(files)};
  if (random) model.fingerprint = base::Hash64("random weights", base::HashCombine(model.fingerprint, options.seed));
  model.spec = std::move(files.spec);
  model.weights = std::move(weights->weights);
  model.tokenizer = std::move(files.tokenizer);
  model.generation = files.generation;
  model.memory = std::move(weights->memory);
  return model;
}

}  // namespace berth::loader
