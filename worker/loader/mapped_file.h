#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace berth::loader {

// A file open and mapped read-only for as long as the object lives. The file must not shrink meanwhile. Thread-safe.
class MappedFile {
 public:
  // NOT_FOUND or INVALID_ARGUMENT (empty, not a regular file) names the path.
  static absl::StatusOr<std::shared_ptr<const MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  absl::Span<const std::byte> bytes() const { return bytes_; }
  int fd() const { return fd_; }

 private:
  MappedFile(std::string path, int fd, absl::Span<const std::byte> bytes) : path_(std::move(path)), fd_(fd), bytes_(bytes) {}

  std::string path_;
  int fd_;
  absl::Span<const std::byte> bytes_;
};

// Asks the system to read that part of a mapped file ahead.
void WillNeed(absl::Span<const std::byte> mapped);

// The same error with the path in front, unless it begins with that, as errors of the files of a directory do.
absl::Status InFile(const std::string& path, const absl::Status& status);

}  // namespace berth::loader
