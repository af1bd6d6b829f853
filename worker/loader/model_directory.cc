#include "worker/loader/model_directory.h"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/hash.h"
#include "base/status.h"

namespace berth::loader {

std::string ModelDirectory::PathOf(std::string_view name) const { return absl::StrFormat("%s/%s", path_, name); }

bool ModelDirectory::Has(std::string_view name) const {
  std::error_code error;
  return std::filesystem::is_regular_file(PathOf(name), error);
}

absl::Status ModelDirectory::CheckInside(std::string_view name) const {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path own = fs::canonical(path_, error), file = fs::canonical(PathOf(name), error);
  const fs::path blobs = own.parent_path().filename() == "snapshots" ? own.parent_path().parent_path() / "blobs" : own;
  if (error || file.parent_path() == own || file.parent_path() == blobs) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(PathOf(name), " is a link to ", file.string(), ", which is not in the model's directory"));
}

absl::StatusOr<std::string> ModelDirectory::Read(std::string_view name) {
  if (!Has(name)) return absl::NotFoundError(absl::StrCat("there is no file ", PathOf(name)));
  BERTH_RETURN_IF_ERROR(CheckInside(name));
  std::ifstream stream(PathOf(name), std::ios::binary);
  std::ostringstream bytes;
  bytes << stream.rdbuf();
  if (!stream) return absl::UnavailableError(absl::StrCat("cannot read ", PathOf(name)));
  std::string text = std::move(bytes).str();
  hash_ = base::Hash64(name, hash_);
  hash_ = base::Hash64(text, hash_);
  return text;
}

absl::StatusOr<std::string> ModelDirectory::Keep(std::string_view name) {
  BERTH_ASSIGN_OR_RETURN(std::string text, Read(name));
  kept_.push_back({std::string(name), text});
  return text;
}

absl::StatusOr<std::string> ModelDirectory::KeepOptional(std::string_view name) {
  return Has(name) ? Keep(name) : std::string();
}

absl::StatusOr<model::HfConfig> ModelDirectory::KeepConfig(std::string_view name) {
  BERTH_ASSIGN_OR_RETURN(const std::string text, Keep(name));
  absl::StatusOr<model::HfConfig> config = model::HfConfig::Parse(text);
  if (!config.ok()) return InFile(PathOf(name), config.status());
  return config;
}

}  // namespace berth::loader
