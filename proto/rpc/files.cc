#include "proto/rpc/files.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace berth::rpc {

// On one path; as many as the kernel follows.
constexpr int kMaxLinks = 40;

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return absl::InvalidArgumentError(absl::StrCat("cannot read ", path, ": ", strerror(errno)));
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (text.empty()) return absl::InvalidArgumentError(absl::StrCat(path, " is empty"));
  return text;
}

// A file changes when an entry of some folder on its path does; so each of these entries is watched, in its folder.
class FileWatcher::Impl {
 public:
  Impl(std::vector<std::string> paths, std::function<void()> on_change, bool at_start)
      : paths_(std::move(paths)),
        on_change_(std::move(on_change)),
        at_start_(at_start),
        inotify_(inotify_init1(IN_NONBLOCK | IN_CLOEXEC)),
        stop_(eventfd(0, EFD_CLOEXEC)) {}

  ~Impl() {
    if (thread_.joinable()) {
      eventfd_write(stop_, 1);
      thread_.join();
    }
    if (inotify_ >= 0) close(inotify_);
    if (stop_ >= 0) close(stop_);
  }

  absl::Status Start() {
    if (inotify_ < 0 || stop_ < 0) return absl::UnavailableError(absl::StrCat("cannot watch files: ", strerror(errno)));
    BERTH_RETURN_IF_ERROR(AddWatches());
    thread_ = std::thread([this] { Run(); });
    return absl::OkStatus();
  }

 private:
  // Again after each change: a folder on a path may be another one now.
  absl::Status AddWatches() {
    std::set<int> in_use;
    for (const std::string& path : paths_) {
      std::error_code error;
      BERTH_RETURN_IF_ERROR(AddPath(std::filesystem::absolute(path, error), kMaxLinks, in_use));
    }
    std::erase_if(names_, [&](const auto& entry) {
      if (in_use.contains(entry.first)) return false;
      inotify_rm_watch(inotify_, entry.first);
      return true;
    });
    return absl::OkStatus();
  }

  // Every entry on the path, and on what its symbolic links point to.
  absl::Status AddPath(const std::filesystem::path& path, int links, std::set<int>& in_use) {
    std::filesystem::path folder = "/";
    for (auto part = path.begin(); part != path.end(); ++part) {
      if (*part == "/" || *part == "." || part->empty()) continue;
      if (*part == "..") {
        folder = folder.parent_path();
        continue;
      }
      const int watch = inotify_add_watch(inotify_, folder.c_str(), IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE);
      if (watch < 0) return absl::UnavailableError(absl::StrCat("cannot watch ", folder.string(), ": ", strerror(errno)));
      names_[watch].insert(*part);
      in_use.insert(watch);
      std::error_code error;
      std::filesystem::path target = std::filesystem::read_symlink(folder / *part, error);
      if (!error && links > 0) {
        if (target.is_relative()) target = folder / target;
        while (++part != path.end()) target /= *part;
        return AddPath(target, links - 1, in_use);
      }
      folder /= *part;
    }
    return absl::OkStatus();
  }

  void Run() {
    if (at_start_) on_change_();
    pollfd polls[] = {{inotify_, POLLIN, 0}, {stop_, POLLIN, 0}};
    while (true) {
      poll(polls, 2, -1);
      if (polls[1].revents != 0) return;
      if (!ReadEvents()) continue;
      // A folder that is gone for a moment comes back as an entry of one that is watched.
      AddWatches().IgnoreError();
      on_change_();
    }
  }

  // Whether one of the entries changed.
  bool ReadEvents() {
    alignas(inotify_event) char buffer[16384];
    bool changed = false;
    for (ssize_t size; (size = read(inotify_, buffer, sizeof(buffer))) > 0;) {
      for (const char* at = buffer; at < buffer + size;) {
        const auto* event = reinterpret_cast<const inotify_event*>(at);
        at += sizeof(inotify_event) + event->len;
        const auto watched = names_.find(event->wd);
        changed |= (event->mask & IN_Q_OVERFLOW) != 0 ||
                   (watched != names_.end() && event->len > 0 && watched->second.contains(event->name));
      }
    }
    return changed;
  }

  const std::vector<std::string> paths_;
  const std::function<void()> on_change_;
  const bool at_start_;
  const int inotify_, stop_;
  std::map<int, std::set<std::string>> names_;  // entries by watch
  std::thread thread_;
};

absl::StatusOr<std::unique_ptr<FileWatcher>> FileWatcher::Start(std::vector<std::string> paths, std::function<void()> on_change,
                                                                bool at_start) {
  auto impl = std::make_unique<Impl>(std::move(paths), std::move(on_change), at_start);
  BERTH_RETURN_IF_ERROR(impl->Start());
  return std::unique_ptr<FileWatcher>(new FileWatcher(std::move(impl)));
}

FileWatcher::FileWatcher(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
FileWatcher::~FileWatcher() = default;

}  // namespace berth::rpc
