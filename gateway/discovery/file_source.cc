#include "gateway/discovery/file_source.h"

#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <filesystem>
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
    : path_(std::move(path)),
      last_(std::move(first)),
      on_workers_(std::move(on_workers)),
      inotify_(inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {
  const std::string folder = std::filesystem::absolute(path_).parent_path();
  inotify_add_watch(inotify_, folder.c_str(), IN_CLOSE_WRITE | IN_MOVED_TO | IN_DELETE);
  thread_ = std::thread([this] { Run(); });
}

FileSource::~FileSource() {
  stop_.Set();
  thread_.join();
  close(inotify_);
}

void FileSource::Run() {
  Read();  // what was written before the watch began
  pollfd fds[] = {{.fd = stop_.fd(), .events = POLLIN}, {.fd = inotify_, .events = POLLIN}};
  while (true) {
    poll(fds, 2, -1);
    if (fds[0].revents != 0) return;
    char events[4096];
    while (read(inotify_, events, sizeof(events)) > 0) {
    }
    Read();
  }
}

void FileSource::Read() {
  absl::StatusOr<std::vector<routing::WorkerAddress>> workers = ReadWorkerFile(path_);
  if (workers.ok() && *workers == last_) return;
  if (workers.ok()) last_ = *workers;
  on_workers_(std::move(workers));
}

}  // namespace berth::discovery
