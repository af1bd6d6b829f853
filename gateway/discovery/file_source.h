#pragma once

#include <string>
#include <thread>
#include <vector>

#include "gateway/discovery/source.h"
#include "gateway/discovery/stop_event.h"

namespace berth::discovery {

// Entries "id=host:port" apart by newlines or commas; from a '#' to the end of its line is a comment. NOT_FOUND, or
// INVALID_ARGUMENT naming the path and the entry; a file without entries is one too: it may be about to be written.
absl::StatusOr<std::vector<routing::WorkerAddress>> ReadWorkerFile(const std::string& path);

// Reports every list of the file that is unlike the one before. It sees writes, renames over the file, and the symbolic links
// that Kubernetes swaps under a mounted ConfigMap.
class FileSource : public Source {
 public:
  FileSource(std::string path, std::vector<routing::WorkerAddress> first, OnWorkers on_workers);
  ~FileSource() override;

 private:
  void Run();
  void Read();

  const std::string path_;
  std::vector<routing::WorkerAddress> last_;
  const OnWorkers on_workers_;
  StopEvent stop_;
  const int inotify_;
  std::thread thread_;
};

}  // namespace berth::discovery
