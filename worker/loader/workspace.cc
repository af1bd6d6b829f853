#include "worker/loader/workspace.h"

#include <array>
#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "nlohmann/json.hpp"
#include "worker/loader/json_fields.h"
#include "worker/loader/weight_checksum.h"

namespace berth::loader {
namespace {

using model::Slot;
using nlohmann::json;

constexpr int kMostParts = 3;

// The name of a slot's tensor for any layer, and of each of its parts.
struct SlotPatterns {
  std::string whole;
  std::array<std::string, kMostParts> parts;
};

const std::array<SlotPatterns, model::kSlotCount>& Patterns() {
  static const auto& patterns = *[] {
    auto* all = new std::array<SlotPatterns, model::kSlotCount>;
    for (int i = 0; i < model::kSlotCount; ++i) {
      const model::SlotInfo& info = model::Info(static_cast<Slot>(i));
      SlotPatterns& slot = (*all)[i];
      slot.whole = absl::StrCat(info.per_layer ? "layers.{}." : "", std::string(info.name));
      for (int part = 0; part < kMostParts; ++part) slot.parts[part] = absl::StrCat(slot.whole, ".", part);
    }
    return all;
  }();
  return patterns;
}

absl::StatusOr<std::vector<int64_t>> ParseShape(const JsonFields& fields) {
  BERTH_ASSIGN_OR_RETURN(const json* values, fields.Array("shape"));
  std::vector<int64_t> shape;
  for (const json& value : *values) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > INT64_MAX) return fields.Error("shape", "is not a shape");
    shape.push_back(value.get<int64_t>());
  }
  if (shape.empty() || shape.size() > 2) return fields.Error("shape", "has not one or two dimensions");
  return shape;
}

absl::StatusOr<std::vector<uint64_t>> ParseChecksums(const JsonFields& fields, int ranks) {
  BERTH_ASSIGN_OR_RETURN(const json* values, fields.Array("checksums"));
  std::vector<uint64_t> checksums;
  for (const json& value : *values) {
    uint64_t checksum = 0;
    if (!value.is_string() || !absl::SimpleHexAtoi(*value.get_ptr<const std::string*>(), &checksum)) {
      return fields.Error("checksums", "has a value that is no hexadecimal number");
    }
    checksums.push_back(checksum);
  }
  if (static_cast<int>(checksums.size()) == ranks) return checksums;
  return fields.Error("checksums", absl::StrCat("has ", checksums.size(), " values, want one for each of ", ranks, " ranks"));
}

absl::StatusOr<WorkspaceTensor> ParseWorkspaceTensor(const JsonFields& fields, int ranks) {
  WorkspaceTensor tensor;
  BERTH_ASSIGN_OR_RETURN(tensor.name, fields.String("name"));
  BERTH_ASSIGN_OR_RETURN(const std::string dtype, fields.String("dtype"));
  const std::optional<kernels::DType> known = kernels::FindDType(dtype);
  if (!known) return fields.Error("dtype", absl::StrCat("is \"", dtype, "\", which is unknown"));
  tensor.dtype = *known;
  BERTH_ASSIGN_OR_RETURN(tensor.shape, ParseShape(fields));
  BERTH_ASSIGN_OR_RETURN(tensor.bytes, TensorBytes(tensor.dtype, tensor.shape));
  const json* offset = fields.Find("offset");
  if (offset == nullptr || !offset->is_number_unsigned()) return fields.Error("offset", "is not a natural number");
  tensor.offset = offset->get<uint64_t>();
  if (tensor.offset % kWorkspaceAlignment != 0) {
    return fields.Error("offset", absl::StrCat("is ", tensor.offset, ", which is no multiple of ", kWorkspaceAlignment));
  }
  BERTH_ASSIGN_OR_RETURN(tensor.checksums, ParseChecksums(fields, ranks));
  return tensor;
}

absl::StatusOr<CheckpointIndex> PlaceTensors(const WorkspaceManifest& manifest, const MappedFile& mapped) {
  const absl::Span<const std::byte> file = mapped.bytes();
  CheckpointIndex index;
  uint64_t end = 0;
  for (const WorkspaceTensor& tensor : manifest.tensors) {
    if (tensor.offset < end) {
      return absl::InvalidArgumentError(
          absl::StrCat("tensor ", tensor.name, " has offset ", tensor.offset, ", and the one before it ends at ", end));
    }
    if (tensor.offset > file.size() || tensor.bytes > file.size() - tensor.offset) {
      return absl::InvalidArgumentError(absl::StrCat("truncated: tensor ", tensor.name, " has ", tensor.bytes,
                                                     " bytes at offset ", tensor.offset, " of ", file.size()));
    }
    index.push_back({.name = tensor.name,
                     .dtype = tensor.dtype,
                     .shape = tensor.shape,
                     .file = mapped.path(),
                     .data = file.subspan(tensor.offset, tensor.bytes)});
    end = tensor.offset + tensor.bytes;
  }
  return index;
}

}  // namespace

std::string FormatWorkspaceManifest(const WorkspaceManifest& manifest) {
  nlohmann::ordered_json out = {
      {"layout_version", kWorkspaceVersion}, {"model", manifest.model}, {"ranks", manifest.ranks}, {"tensors", json::array()}};
  for (const WorkspaceTensor& tensor : manifest.tensors) {
    nlohmann::ordered_json entry = {{"name", tensor.name},
                                    {"dtype", std::string(kernels::Info(tensor.dtype).name)},
                                    {"shape", tensor.shape},
                                    {"offset", tensor.offset},
                                    {"checksums", json::array()}};
    for (const uint64_t checksum : tensor.checksums) entry["checksums"].push_back(absl::StrFormat("%016x", checksum));
    out["tensors"].push_back(std::move(entry));
  }
  return out.dump(1) + "\n";
}

absl::StatusOr<WorkspaceManifest> ParseWorkspaceManifest(std::string_view text) {
  const json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  BERTH_ASSIGN_OR_RETURN(const JsonFields fields, JsonFields::Of(parsed, std::string(kWorkspaceManifest)));
  BERTH_ASSIGN_OR_RETURN(const int32_t version, fields.Int("layout_version"));
  if (version != kWorkspaceVersion) {
    return absl::UnimplementedError(absl::StrCat(fields.PathOf("layout_version"), " is ", version, ", this program reads ",
                                                 kWorkspaceVersion, ": convert the model again"));
  }
  WorkspaceManifest manifest;
  BERTH_ASSIGN_OR_RETURN(manifest.model, fields.String("model"));
  BERTH_ASSIGN_OR_RETURN(manifest.ranks, fields.Int("ranks"));
  if (manifest.ranks < 1) return fields.Error("ranks", absl::StrCat("is ", manifest.ranks, ", want 1 or more"));
  BERTH_ASSIGN_OR_RETURN(const json* tensors, fields.Array("tensors"));
  for (size_t i = 0; i < tensors->size(); ++i) {
    BERTH_ASSIGN_OR_RETURN(const JsonFields entry,
                           JsonFields::Of((*tensors)[i], absl::StrFormat("%s[%d]", fields.PathOf("tensors"), i)));
    BERTH_ASSIGN_OR_RETURN(WorkspaceTensor tensor, ParseWorkspaceTensor(entry, manifest.ranks));
    manifest.tensors.push_back(std::move(tensor));
  }
  return manifest;
}

std::string WorkspaceWeightsFile(const Shard& shard) { return absl::StrFormat("weights-%d-of-%d.bin", shard.rank, shard.size); }

std::string WorkspaceTensorName(Slot slot, int layer, int part) {
  const SlotPatterns& patterns = Patterns()[static_cast<int>(slot)];
  std::string name = part == model::kAllParts ? patterns.whole : patterns.parts[part];
  const size_t mark = name.find("{}");
  return mark == std::string::npos ? name : name.replace(mark, 2, absl::StrCat(layer));
}

std::vector<model::WeightRule> WorkspaceRules(const model::DecoderSpec& spec) {
  std::vector<model::WeightRule> rules;
  if (spec.tied_head) rules.push_back(model::Alias(Slot::kHead, Slot::kEmbed));
  for (int i = 0; i < model::kSlotCount; ++i) {
    const Slot slot = static_cast<Slot>(i);
    rules.push_back(model::Weight(Patterns()[i].whole, slot, model::kAllParts));
    for (int part = 0; part < kMostParts; ++part) rules.push_back(model::Weight(Patterns()[i].parts[part], slot, part));
  }
  return rules;
}

absl::StatusOr<Checkpoint> OpenWorkspaceWeights(const std::string& directory, const WorkspaceManifest& manifest,
                                                const Shard& shard) {
  if (manifest.ranks != shard.size) {
    return absl::FailedPreconditionError(
        absl::StrFormat("%s is converted for %d ranks, and %d run it: convert again with --tp %d", directory, manifest.ranks,
                        shard.size, shard.size));
  }
  const std::string path = absl::StrCat(directory, "/", WorkspaceWeightsFile(shard));
  BERTH_ASSIGN_OR_RETURN(std::shared_ptr<const MappedFile> file, MappedFile::Open(path));
  absl::StatusOr<CheckpointIndex> index = PlaceTensors(manifest, *file);
  if (!index.ok()) return InFile(path, index.status());
  Checkpoint checkpoint{.tensors = *std::move(index), .files = {std::move(file)}};
  std::vector<WeightVerifier::Tensor> tensors;
  for (size_t i = 0; i < manifest.tensors.size(); ++i) {
    const WorkspaceTensor& tensor = manifest.tensors[i];
    tensors.push_back({tensor.name, checkpoint.tensors[i].data, tensor.checksums[shard.rank]});
  }
  checkpoint.verifier = std::make_shared<WeightVerifier>(WorkspaceWeightsFile(shard), std::move(tensors));
  return checkpoint;
}

}  // namespace berth::loader
