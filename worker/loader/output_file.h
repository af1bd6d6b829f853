#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace berth::loader {

// A file that is written, closed on destruction. Errors name the path; RESOURCE_EXHAUSTED: the disk is full. Movable.
class OutputFile {
 public:
  // Made when it is not there; what is in it stays.
  static absl::StatusOr<OutputFile> Open(const std::string& path);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;
  ~OutputFile();

  absl::Status WriteAt(uint64_t offset, absl::Span<const std::byte> bytes);
  // Makes the file exactly that long, with room for it on the disk where the file system can promise that.
  absl::Status Resize(uint64_t bytes);
  // Waits until what was written is on the disk.
  absl::Status Sync();
  // FAILED_PRECONDITION when another process has the file locked. The lock ends with this object or its process.
  absl::Status Lock();

 private:
  OutputFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}

  std::string path_;
  int fd_ = -1;
};

// Puts `bytes` on the disk as the whole of the file at `path`.
absl::Status WriteWholeFile(const std::string& path, std::string_view bytes);

// Waits until the directory's entries are on the disk.
absl::Status SyncDirectory(const std::string& path);

}  // namespace berth::loader
