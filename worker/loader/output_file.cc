#include "worker/loader/output_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace berth::loader {
namespace {

absl::Status FileError(int code, std::string_view what, const std::string& path) {
  return absl::ErrnoToStatus(code, absl::StrCat("cannot ", std::string(what), " ", path));
}

}  // namespace

absl::StatusOr<OutputFile> OutputFile::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return FileError(errno, "write", path);
  return OutputFile(path, fd);
}

OutputFile::OutputFile(OutputFile&& other) noexcept : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  return *this;
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) close(fd_);
}

absl::Status OutputFile::WriteAt(uint64_t offset, absl::Span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return FileError(errno, "write", path_);
    offset += written;
    bytes.remove_prefix(written);
  }
  return absl::OkStatus();
}

absl::Status OutputFile::Resize(uint64_t bytes) {
  if (ftruncate(fd_, static_cast<off_t>(bytes)) != 0) return FileError(errno, "resize", path_);
  if (bytes == 0 || fallocate(fd_, 0, 0, static_cast<off_t>(bytes)) == 0) return absl::OkStatus();
  return errno == EOPNOTSUPP ? absl::OkStatus() : FileError(errno, "make room for", path_);
}

absl::Status OutputFile::Sync() { return fdatasync(fd_) == 0 ? absl::OkStatus() : FileError(errno, "sync", path_); }

absl::Status OutputFile::Lock() {
  if (flock(fd_, LOCK_EX | LOCK_NB) == 0) return absl::OkStatus();
  if (errno != EWOULDBLOCK) return FileError(errno, "lock", path_);
  return absl::FailedPreconditionError(absl::StrCat(path_, " is locked: another process is writing there"));
}

absl::Status WriteWholeFile(const std::string& path, std::string_view bytes) {
  BERTH_ASSIGN_OR_RETURN(OutputFile file, OutputFile::Open(path));
  BERTH_RETURN_IF_ERROR(file.Resize(bytes.size()));
  BERTH_RETURN_IF_ERROR(file.WriteAt(0, {reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}));
  return file.Sync();
}

absl::Status SyncDirectory(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return FileError(errno, "open", path);
  const int code = fsync(fd) == 0 ? 0 : errno;
  close(fd);
  return code == 0 ? absl::OkStatus() : FileError(code, "sync", path);
}

}  // namespace berth::loader
