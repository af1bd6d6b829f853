#include <map>
#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "nlohmann/json.hpp"
#include "worker/loader/byte_tokenizer.h"
#include "worker/loader/model_directory.h"
#include "worker/loader/model_files.h"
#include "worker/loader/safetensors.h"
#include "worker/loader/tiktoken.h"
#include "worker/loader/tokenizer_json.h"
#include "worker/loader/workspace.h"
#include "worker/model/hf_config.h"

namespace berth::loader {
namespace {

using Json = nlohmann::json;
using model::HfConfig;

absl::Status AddFile(ModelDirectory& directory, const std::string& name, Checkpoint& checkpoint) {
  const std::string path = directory.PathOf(name);
  BERTH_RETURN_IF_ERROR(directory.CheckInside(name));
  BERTH_ASSIGN_OR_RETURN(std::shared_ptr<const MappedFile> file, MappedFile::Open(path));
  absl::StatusOr<CheckpointIndex> tensors = ParseSafetensors(file->bytes());
  if (!tensors.ok()) return InFile(path, tensors.status());
  for (TensorInfo& tensor : *tensors) {
    tensor.file = path;
    checkpoint.tensors.push_back(std::move(tensor));
  }
  checkpoint.files.push_back(std::move(file));
  return absl::OkStatus();
}

// Tensor name → file name. File names that would leave the directory are refused.
absl::StatusOr<std::map<std::string, std::string>> ParseWeightMap(std::string_view text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("weight_map") || !json["weight_map"].is_object()) {
    return absl::InvalidArgumentError("want a JSON object with the object weight_map");
  }
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : json["weight_map"].items()) {
    if (!file.is_string()) return absl::InvalidArgumentError(absl::StrCat("weight_map.", tensor, ": want a file name"));
    std::string name = file.get<std::string>();
    if (name.empty() || name.find('/') != std::string::npos) {
      return absl::InvalidArgumentError(absl::StrCat("weight_map.", tensor, ": \"", name, "\" is no file name"));
    }
    files.emplace(tensor, std::move(name));
  }
  return files;
}

absl::StatusOr<Checkpoint> OpenShards(ModelDirectory& directory, std::string_view index_name) {
  BERTH_ASSIGN_OR_RETURN(const std::string text, directory.Read(index_name));
  absl::StatusOr<std::map<std::string, std::string>> weight_map = ParseWeightMap(text);
  if (!weight_map.ok()) return InFile(directory.PathOf(index_name), weight_map.status());
  std::set<std::string> names;
  for (const auto& [tensor, file] : *weight_map) {
    if (!directory.Has(file)) {
      return absl::NotFoundError(
          absl::StrFormat("%s is missing, where %s says that tensor %s is", directory.PathOf(file), index_name, tensor));
    }
    names.insert(file);
  }

  Checkpoint checkpoint;
  for (const std::string& name : names) BERTH_RETURN_IF_ERROR(AddFile(directory, name, checkpoint));
  std::set<std::string> seen;
  for (const TensorInfo& tensor : checkpoint.tensors) {
    const std::string& path = tensor.file;
    const auto entry = weight_map->find(tensor.name);
    if (entry == weight_map->end() || directory.PathOf(entry->second) != path || !seen.insert(tensor.name).second) {
      return absl::InvalidArgumentError(
          absl::StrFormat("tensor %s is in %s, but %s does not say so", tensor.name, path, index_name));
    }
  }
  for (const auto& [tensor, file] : *weight_map) {
    if (!seen.contains(tensor)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("tensor %s is not in %s, as %s says", tensor, directory.PathOf(file), index_name));
    }
  }
  return checkpoint;
}

absl::StatusOr<Checkpoint> OpenWeights(ModelDirectory& directory) {
  if (directory.Has("model.safetensors.index.json")) return OpenShards(directory, "model.safetensors.index.json");
  if (directory.Has("model.safetensors")) {
    Checkpoint checkpoint;
    BERTH_RETURN_IF_ERROR(AddFile(directory, "model.safetensors", checkpoint));
    return checkpoint;
  }
  if (directory.Has("pytorch_model.bin") || directory.Has("pytorch_model.bin.index.json")) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s is a Python pickle, which Berth does not read, as it can run code. Make safetensors of it: python3 -c \"from "
        "transformers import AutoModelForCausalLM as M, AutoTokenizer as T; p = '%s'; o = p + '-safetensors'; "
        "M.from_pretrained(p, torch_dtype='auto').save_pretrained(o); T.from_pretrained(p).save_pretrained(o)\"",
        directory.PathOf("pytorch_model.bin"), directory.path()));
  }
  return absl::NotFoundError(
      absl::StrCat("there is neither ", directory.PathOf("model.safetensors"), " nor model.safetensors.index.json beside it"));
}

// For random weights of a directory that has no tokenizer.
absl::StatusOr<text::TokenizerData> MakeByteTokenizer(const HfConfig& config, int vocab) {
  if (vocab < 256) return config.Error("vocab_size", "want at least 256 without a tokenizer.json");
  return ByteTokenizerData(vocab);
}

bool HasTokenizer(const ModelDirectory& directory) {
  return directory.Has("tokenizer.json") || directory.Has("tokenizer.model") || directory.Has("qwen.tiktoken") ||
         directory.Has(kGgufMetadataFile);
}

absl::Status OpenTokenizer(ModelDirectory& directory, ModelFiles& files) {
  BERTH_ASSIGN_OR_RETURN(const std::string config, directory.KeepOptional("tokenizer_config.json"));
  if (directory.Has(kGgufMetadataFile)) {
    BERTH_ASSIGN_OR_RETURN(const std::string metadata, directory.Keep(kGgufMetadataFile));
    const absl::Status status = ReadGgufMetadata(metadata, files);
    return status.ok() ? status : InFile(directory.PathOf(kGgufMetadataFile), status);
  }
  enum { kJson, kTiktoken, kSentencePiece } kind = kSentencePiece;
  std::string_view name = "tokenizer.model";
  if (directory.Has("tokenizer.json")) {
    kind = kJson;
    name = "tokenizer.json";
  } else if (directory.Has("qwen.tiktoken")) {
    kind = kTiktoken;
    name = "qwen.tiktoken";
  } else if (IsTiktokenConfig(config)) {
    kind = kTiktoken;
  }
  BERTH_ASSIGN_OR_RETURN(std::string bytes, directory.Keep(name));
  absl::StatusOr<text::TokenizerData> data = kind == kJson       ? ParseTokenizerJson(bytes, config)
                                             : kind == kTiktoken ? ParseTiktoken(bytes, config)
                                                                 : ParseSentencePiece(std::move(bytes), config);
  if (!data.ok()) return InFile(directory.PathOf(name), data.status());
  if (directory.Has("chat_template.jinja")) {
    BERTH_ASSIGN_OR_RETURN(data->chat_template, directory.Keep("chat_template.jinja"));
  }
  files.tokenizer = *std::move(data);
  return absl::OkStatus();
}

absl::StatusOr<GenerationDefaults> ParseGeneration(const HfConfig& config) {
  GenerationDefaults out;
  BERTH_ASSIGN_OR_RETURN(const double temperature, config.FloatOr("temperature", out.temperature));
  BERTH_ASSIGN_OR_RETURN(const double top_p, config.FloatOr("top_p", out.top_p));
  BERTH_ASSIGN_OR_RETURN(const int64_t top_k, config.IntOr("top_k", out.top_k));
  BERTH_ASSIGN_OR_RETURN(const double repetition_penalty, config.FloatOr("repetition_penalty", out.repetition_penalty));
  BERTH_ASSIGN_OR_RETURN(out.do_sample, config.BoolOr("do_sample", out.do_sample));
  if (!(temperature >= 0 && temperature <= 100)) return config.Error("temperature", "want 0 to 100");
  if (!(top_p > 0 && top_p <= 1)) return config.Error("top_p", "want more than 0, at most 1");
  if (top_k < 0 || top_k > INT32_MAX) return config.Error("top_k", "want 0 or more");
  if (!(repetition_penalty > 0 && repetition_penalty <= 100))
    return config.Error("repetition_penalty", "want more than 0, at most 100");
  out.temperature = static_cast<float>(temperature);
  out.top_p = static_cast<float>(top_p);
  out.top_k = static_cast<int>(top_k);
  out.repetition_penalty = static_cast<float>(repetition_penalty);
  return out;
}

absl::StatusOr<std::vector<int32_t>> EosIds(const HfConfig& config, int vocab) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<int64_t> ids, config.Ints("eos_token_id"));
  for (const int64_t id : ids) {
    if (id < 0 || id >= vocab) return config.Error("eos_token_id", absl::StrCat("want ids under vocab_size, ", vocab));
  }
  return std::vector<int32_t>(ids.begin(), ids.end());
}

// generation_config.json may be absent; then config.json names the ids that end a generation.
absl::Status OpenGeneration(ModelDirectory& directory, const HfConfig& config, ModelFiles& files) {
  HfConfig generation = config;
  std::string path = directory.PathOf("config.json");
  if (directory.Has("generation_config.json")) {
    path = directory.PathOf("generation_config.json");
    BERTH_ASSIGN_OR_RETURN(generation, directory.KeepConfig("generation_config.json"));
    absl::StatusOr<GenerationDefaults> defaults = ParseGeneration(generation);
    if (!defaults.ok()) return InFile(path, defaults.status());
    files.generation = *defaults;
  }
  absl::StatusOr<std::vector<int32_t>> ids = EosIds(generation, files.spec.vocab);
  if (!ids.ok()) return InFile(path, ids.status());
  if (!ids->empty()) files.tokenizer.generation_eos_ids = *std::move(ids);
  return absl::OkStatus();
}

// A converted model's name and weights.
absl::Status OpenWorkspace(ModelDirectory& directory, ModelFiles& files) {
  BERTH_ASSIGN_OR_RETURN(const std::string text, directory.Read(kWorkspaceManifest));
  const absl::StatusOr<WorkspaceManifest> manifest = ParseWorkspaceManifest(text);
  if (!manifest.ok()) return InFile(directory.PathOf(kWorkspaceManifest), manifest.status());
  BERTH_ASSIGN_OR_RETURN(files.checkpoint, OpenWorkspaceWeights(directory.path(), *manifest, Shard{}));
  files.rules = WorkspaceRules(files.spec);
  files.name = manifest->model;
  return absl::OkStatus();
}

absl::Status CheckFinished(const ModelDirectory& directory) {
  if (!directory.Has(kWorkspaceProgress)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(directory.path(), " is a conversion that has not ended: run the same berth convert again to go on with it"));
}

// Meta's own directories have neither a config.json nor a format that is safe to read.
absl::Status CheckNotMeta(const ModelDirectory& directory) {
  if (directory.Has("config.json") || !directory.Has("consolidated.00.pth")) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "%s is a Python pickle in Meta's layout, which Berth does not read. Make a Hugging Face directory of it: python3 -m "
      "transformers.models.llama.convert_llama_weights_to_hf --input_dir %s --output_dir %s-hf",
      directory.PathOf("consolidated.00.pth"), directory.path(), directory.path()));
}

absl::Status ParseSpec(const HfConfig& config, ModelFiles& files) {
  BERTH_ASSIGN_OR_RETURN(const model::Family* family, model::FindFamily(config));
  BERTH_ASSIGN_OR_RETURN(files.spec, family->parse(config));
  files.rules = family->rules(files.spec);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelFiles> OpenHfDirectory(const std::string& path, LoadFormat format) {
  ModelDirectory directory(path);
  ModelFiles files;
  BERTH_RETURN_IF_ERROR(CheckFinished(directory));
  BERTH_RETURN_IF_ERROR(CheckNotMeta(directory));
  BERTH_ASSIGN_OR_RETURN(const HfConfig config, directory.KeepConfig("config.json"));
  if (absl::Status status = ParseSpec(config, files); !status.ok()) return InFile(directory.PathOf("config.json"), status);
  const bool random = format == LoadFormat::kRandom;
  if (!random && directory.Has(kWorkspaceManifest)) {
    BERTH_RETURN_IF_ERROR(OpenWorkspace(directory, files));
  } else if (!random) {
    BERTH_ASSIGN_OR_RETURN(files.checkpoint, OpenWeights(directory));
  }
  if (random && !HasTokenizer(directory)) {
    BERTH_ASSIGN_OR_RETURN(files.tokenizer, MakeByteTokenizer(config, files.spec.vocab));
  } else {
    BERTH_RETURN_IF_ERROR(OpenTokenizer(directory, files));
  }
  BERTH_RETURN_IF_ERROR(OpenGeneration(directory, config, files));
  files.metadata_hash = directory.hash();
  files.small_files = std::move(directory).kept();
  return files;
}

}  // namespace berth::loader
