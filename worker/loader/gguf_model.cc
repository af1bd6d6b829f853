#include <cstring>
#include <limits>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/hash.h"
#include "base/status.h"
#include "worker/loader/gguf.h"
#include "worker/loader/gguf_architectures.h"
#include "worker/loader/gguf_config.h"
#include "worker/loader/gguf_latent.h"
#include "worker/loader/gguf_tokenizer.h"
#include "worker/loader/gguf_tokenizer_keys.h"
#include "worker/loader/model_files.h"

namespace berth::loader {
namespace {

constexpr int64_t kMostParts = 99999;
constexpr size_t kTensorCountAt = 8;

// A model's GGUF files, the first of which has the metadata; all tensors are in `gguf`.
struct GgufParts {
  GgufFile gguf;
  std::vector<std::shared_ptr<const MappedFile>> files;
};

absl::StatusOr<GgufFile> OpenPart(const std::string& path, GgufParts& parts) {
  BERTH_ASSIGN_OR_RETURN(std::shared_ptr<const MappedFile> file, MappedFile::Open(path));
  absl::StatusOr<GgufFile> gguf = ParseGguf(file->bytes());
  if (!gguf.ok()) return InFile(path, gguf.status());
  for (TensorInfo& tensor : gguf->tensors) tensor.file = path;
  parts.files.push_back(std::move(file));
  return gguf;
}

// "NAME-00002-of-00003.gguf" of part 1 (counted from 0) of 3.
std::string PartSuffix(int64_t part, int64_t count) { return absl::StrFormat("-%05d-of-%05d.gguf", part + 1, count); }

absl::Status CheckPart(const GgufMetadata& metadata, int64_t part, int64_t count) {
  BERTH_ASSIGN_OR_RETURN(const int64_t number, metadata.Int("split.no"));
  BERTH_ASSIGN_OR_RETURN(const int64_t of, metadata.Int("split.count"));
  if (number != part) return metadata.Error("split.no", absl::StrCat("want ", part));
  if (of != count) return metadata.Error("split.count", absl::StrCat("want ", count, " as in the first file"));
  return absl::OkStatus();
}

// The other files of a model whose first one is open.
absl::Status OpenOtherParts(const std::string& first, int64_t count, GgufParts& parts) {
  const std::string suffix = PartSuffix(0, count);
  if (!absl::EndsWith(first, suffix)) {
    return InFile(first, parts.gguf.metadata.Error("split.count",
                                                   absl::StrCat("want the first of these files, whose name ends in ", suffix)));
  }
  const std::string stem = first.substr(0, first.size() - suffix.size());
  std::set<std::string> names;
  for (const TensorInfo& tensor : parts.gguf.tensors) names.insert(tensor.name);
  for (int64_t part = 1; part < count; ++part) {
    const std::string path = absl::StrCat(stem, PartSuffix(part, count));
    BERTH_ASSIGN_OR_RETURN(GgufFile gguf, OpenPart(path, parts));
    if (absl::Status status = CheckPart(gguf.metadata, part, count); !status.ok()) return InFile(path, status);
    for (TensorInfo& tensor : gguf.tensors) {
      if (!names.insert(tensor.name).second) {
        return absl::InvalidArgumentError(absl::StrCat(path, ": tensor ", tensor.name, " is in an earlier file too"));
      }
      parts.gguf.tensors.push_back(std::move(tensor));
    }
  }
  BERTH_ASSIGN_OR_RETURN(const int64_t tensors, parts.gguf.metadata.Int("split.tensors.count"));
  if (tensors == static_cast<int64_t>(parts.gguf.tensors.size())) return absl::OkStatus();
  return InFile(first,
                parts.gguf.metadata.Error("split.tensors.count", absl::StrCat("the files have ", parts.gguf.tensors.size())));
}

absl::StatusOr<GgufParts> OpenParts(const std::string& path) {
  GgufParts parts;
  BERTH_ASSIGN_OR_RETURN(parts.gguf, OpenPart(path, parts));
  const GgufMetadata& metadata = parts.gguf.metadata;
  if (!metadata.Has("split.count")) return parts;
  const absl::StatusOr<int64_t> count = metadata.Int("split.count");
  if (!count.ok()) return InFile(path, count.status());
  if (*count < 0 || *count > kMostParts) {
    return InFile(path, metadata.Error("split.count", absl::StrCat("want 0 to ", kMostParts)));
  }
  if (*count > 1) BERTH_RETURN_IF_ERROR(OpenOtherParts(path, *count, parts));
  return parts;
}

absl::Status SetFromMetadata(const GgufMetadata& metadata, ModelFiles& files) {
  BERTH_ASSIGN_OR_RETURN(const GgufArchitecture* architecture, FindGgufArchitecture(metadata));
  BERTH_ASSIGN_OR_RETURN(GgufTokenizerMetadata tokenizer, TranslateGgufTokenizer(metadata));
  BERTH_ASSIGN_OR_RETURN(files.tokenizer, ParseGgufTokenizer(std::move(tokenizer)));
  files.preferred_dtype = PreferredDType(*architecture, files.checkpoint.tensors);
  return absl::OkStatus();
}

absl::StatusOr<ModelFiles> Understand(GgufParts parts) {
  const GgufFile& gguf = parts.gguf;
  ModelFiles files;
  BERTH_ASSIGN_OR_RETURN(const model::HfConfig config, TranslateGgufConfig(gguf));
  BERTH_ASSIGN_OR_RETURN(const model::Family* family, model::FindFamily(config));
  BERTH_ASSIGN_OR_RETURN(files.spec, family->parse(config));
  BERTH_ASSIGN_OR_RETURN(files.rules, GgufRules(gguf.metadata, files.spec));
  const absl::Span<const std::byte> bytes = parts.files.front()->bytes();
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  files.metadata_hash = base::Hash64(text.substr(0, gguf.data_offset));
  files.small_files = {{"config.json", config.ToJson()},
                       {std::string(kGgufMetadataFile), std::string(text.substr(0, gguf.metadata_end))}};
  std::memset(files.small_files.back().bytes.data() + kTensorCountAt, 0, sizeof(uint64_t));
  FlattenGgufShapes(parts.gguf.tensors);
  files.checkpoint = {.tensors = std::move(parts.gguf.tensors), .files = std::move(parts.files)};
  BERTH_RETURN_IF_ERROR(SetFromMetadata(gguf.metadata, files));
  BERTH_RETURN_IF_ERROR(JoinLatentUp(files.spec, files.checkpoint));
  return files;
}

}  // namespace

absl::StatusOr<ModelFiles> OpenGgufModel(const std::string& path) {
  BERTH_ASSIGN_OR_RETURN(GgufParts parts, OpenParts(path));
  absl::StatusOr<ModelFiles> files = Understand(std::move(parts));
  if (!files.ok()) return InFile(path, files.status());
  return files;
}

absl::Status ReadGgufMetadata(std::string_view bytes, ModelFiles& files) {
  BERTH_ASSIGN_OR_RETURN(const GgufFile gguf, ParseGguf({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}));
  return SetFromMetadata(gguf.metadata, files);
}

}  // namespace berth::loader
