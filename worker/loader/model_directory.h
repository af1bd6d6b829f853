#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/loader/model_files.h"
#include "worker/model/hf_config.h"

namespace berth::loader {

// The small files of a model's directory, each read at most once, those that are the model's but not the weights', and a hash
// of all that were read. Errors name the file.
class ModelDirectory {
 public:
  explicit ModelDirectory(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  std::string PathOf(std::string_view name) const;
  bool Has(std::string_view name) const;
  // INVALID_ARGUMENT for a link to a file that is not the directory's own. The hub's cache links a snapshot's files to blobs
  // beside the snapshots.
  absl::Status CheckInside(std::string_view name) const;

  absl::StatusOr<std::string> Read(std::string_view name);
  // Reads a file that every copy of the model needs.
  absl::StatusOr<std::string> Keep(std::string_view name);
  // The same; empty when there is no such file.
  absl::StatusOr<std::string> KeepOptional(std::string_view name);
  absl::StatusOr<model::HfConfig> KeepConfig(std::string_view name);

  std::vector<SmallFile> kept() && { return std::move(kept_); }
  uint64_t hash() const { return hash_; }

 private:
  std::string path_;
  uint64_t hash_ = 0;
  std::vector<SmallFile> kept_;
};

}  // namespace berth::loader
