#include "gateway/discovery/file_source.h"

#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace berth::discovery {

absl::StatusOr<std::vector<routing::WorkerAddress>> ReadWorkerFile(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  if (!file) return absl::NotFoundError(absl::StrCat("worker file ", path, " cannot be read"));
  std::vector<std::string> entries;
  for (absl::string_view line : absl::StrSplit(text.str(), '\n')) {
    for (absl::string_view entry : absl::StrSplit(line.substr(0, line.find('#')), ',')) {
      entry = absl::StripAsciiWhitespace(entry);
      if (!entry.empty()) entries.emplace_back(entry);
    }
  }
  if (entries.empty()) return absl::InvalidArgumentError(absl::StrCat("worker file ", path, " names no worker"));
  absl::StatusOr<std::vector<routing::WorkerAddress>> workers = routing::ParseWorkerList(absl::StrJoin(entries, ","));
  if (workers.ok()) return workers;
  return absl::InvalidArgumentError(absl::StrCat("worker file ", path, ": ", workers.status().message()));
}

FileSource::FileSource(std::string path, std::vector<routing::WorkerAddress> first, OnWorkers on_workers)
    : path_(std::move(path)), last_(std::move(first)), on_workers_(std::move(on_workers)) {
  auto watcher = rpc::FileWatcher::Start(
      {path_}, [this] { Read(); }, /*at_start=*/true);
  if (watcher.ok()) {
    watcher_ = *std::move(watcher);
  } else {
    on_workers_(watcher.status());
  }
}

void FileSource::Read() {
  absl::StatusOr<std::vector<routing::WorkerAddress>> workers = ReadWorkerFile(path_);
  if (workers.ok() && *workers == last_) return;
  if (workers.ok()) last_ = *workers;
  on_workers_(std::move(workers));
}

}  // namespace berth::discovery
