#include <limits>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "base/status.h"
#include "worker/loader/gguf.h"
#include "worker/loader/gguf_config.h"
#include "worker/loader/gguf_tokenizer.h"
#include "worker/loader/gguf_tokenizer_keys.h"
#include "worker/loader/model_files.h"

namespace berth::loader {
namespace {

absl::StatusOr<ModelFiles> Understand(std::shared_ptr<const MappedFile> file) {
  BERTH_ASSIGN_OR_RETURN(GgufFile gguf, ParseGguf(file->bytes()));
  if (gguf.metadata.Has("split.count")) {
    return gguf.metadata.Error("split.count", "a model in several GGUF files is not supported: merge them into one",
                               absl::StatusCode::kUnimplemented);
  }
  ModelFiles files;
  BERTH_ASSIGN_OR_RETURN(const model::HfConfig config, TranslateGgufConfig(gguf));
  BERTH_ASSIGN_OR_RETURN(const model::Family* family, model::FindFamily(config));
  BERTH_ASSIGN_OR_RETURN(files.spec, family->parse(config));
  BERTH_ASSIGN_OR_RETURN(files.rules, GgufRules(gguf.metadata, files.spec));
  BERTH_ASSIGN_OR_RETURN(GgufTokenizerMetadata tokenizer, TranslateGgufTokenizer(gguf.metadata));
  BERTH_ASSIGN_OR_RETURN(files.tokenizer, ParseGgufTokenizer(std::move(tokenizer)));
  const absl::Span<const std::byte> header = file->bytes().subspan(0, gguf.data_offset);
  files.metadata_hash = base::Hash64({reinterpret_cast<const char*>(header.data()), header.size()});
  files.checkpoint = {.tensors = std::move(gguf.tensors), .files = {std::move(file)}};
  return files;
}

}  // namespace

absl::StatusOr<ModelFiles> OpenGgufModel(const std::string& path) {
  BERTH_ASSIGN_OR_RETURN(std::shared_ptr<const MappedFile> file, MappedFile::Open(path));
  absl::StatusOr<ModelFiles> files = Understand(std::move(file));
  if (!files.ok()) return absl::Status(files.status().code(), absl::StrCat(path, ": ", files.status().message()));
  return files;
}

}  // namespace berth::loader
