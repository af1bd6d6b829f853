#pragma once

#include <memory>
#include <string>
#include <vector>

#include "gateway/discovery/source.h"
#include "proto/rpc/files.h"

namespace berth::discovery {

// Entries "id=host:port" apart by newlines or commas; from a '#' to the end of its line is a comment. NOT_FOUND, or
// INVALID_ARGUMENT naming the path and the entry; a file without entries is one too: it may be about to be written.
absl::StatusOr<std::vector<routing::WorkerAddress>> ReadWorkerFile(const std::string& path);

// Reports every list of the file that is unlike the one before.
class FileSource : public Source {
 public:
  FileSource(std::string path, std::vector<routing::WorkerAddress> first, OnWorkers on_workers);

 private:
  void Read();

  const std::string path_;
  std::vector<routing::WorkerAddress> last_;  // of the watcher's thread
  const OnWorkers on_workers_;
  std::unique_ptr<rpc::FileWatcher> watcher_;
};

}  // namespace berth::discovery
