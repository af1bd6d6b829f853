#include "worker/loader/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/cpu/thread_pool.h"

namespace berth::loader {
namespace {

constexpr size_t kUnmapBytes = size_t{256} << 20;

}  // namespace

absl::StatusOr<std::shared_ptr<const MappedFile>> MappedFile::Open(const std::string& path) {
  // Not to wait for a writer when the path is a pipe.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  absl::Cleanup close_fd = [fd] { close(fd); };

  struct stat info;
  if (fstat(fd, &info) != 0) return absl::ErrnoToStatus(errno, absl::StrCat("cannot stat ", path));
  if (!S_ISREG(info.st_mode)) return absl::InvalidArgumentError(absl::StrCat(path, " is not a regular file"));
  if (info.st_size == 0) return absl::InvalidArgumentError(absl::StrCat(path, " is empty"));

  const size_t size = static_cast<size_t>(info.st_size);
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  if (data == MAP_FAILED) return absl::ErrnoToStatus(errno, absl::StrCat("cannot map ", path));
  std::move(close_fd).Cancel();
  return std::shared_ptr<const MappedFile>(new MappedFile(path, fd, {static_cast<const std::byte*>(data), size}));
}

// The kernel takes some 50 ns a page, and all cores of it where many gibibytes were read.
MappedFile::~MappedFile() {
  std::byte* const data = const_cast<std::byte*>(bytes_.data());
  const auto parts = static_cast<int>((bytes_.size() + kUnmapBytes - 1) / kUnmapBytes);
  if (parts > 1) {
    const int threads = std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, parts);
    kernels::cpu::ThreadPool(threads).Run(parts, [&](int part, int) {
      const size_t begin = part * kUnmapBytes;
      madvise(data + begin, std::min(kUnmapBytes, bytes_.size() - begin), MADV_DONTNEED);
    });
  }
  munmap(data, bytes_.size());
  close(fd_);
}

void WillNeed(absl::Span<const std::byte> mapped) {
  const size_t before = reinterpret_cast<uintptr_t>(mapped.data()) % static_cast<size_t>(sysconf(_SC_PAGESIZE));
  madvise(const_cast<std::byte*>(mapped.data()) - before, mapped.size() + before, MADV_WILLNEED);
}

absl::Status InFile(const std::string& path, const absl::Status& status) {
  if (absl::StartsWith(status.message(), path)) return status;
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

}  // namespace berth::loader
