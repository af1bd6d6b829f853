#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace berth::rpc {

// The whole file. INVALID_ARGUMENT names a file that cannot be read or is empty.
absl::StatusOr<std::string> ReadFile(const std::string& path);

// Tells when files are written, replaced or come to be, also by a symbolic link on their paths that changes (as Kubernetes
// updates secrets). Stops when destroyed.
class FileWatcher {
 public:
  // `on_change` runs on the watcher's thread; spurious calls happen, and a change in steps gives several. With `at_start` it
  // runs first of all, too, for what changed before. UNAVAILABLE when the system has no watches left.
  static absl::StatusOr<std::unique_ptr<FileWatcher>> Start(std::vector<std::string> paths, std::function<void()> on_change,
                                                            bool at_start = false);
  ~FileWatcher();

 private:
  class Impl;
  explicit FileWatcher(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace berth::rpc
