#include "worker/loader/workspace_writer.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "base/status.h"

namespace berth::loader {
namespace {

namespace fs = std::filesystem;

absl::Span<const std::byte> BytesOf(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

absl::Status CheckDestination(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return absl::OkStatus();
  return absl::AlreadyExistsError(absl::StrCat(path, " is already there: name another place, or remove it"));
}

uint64_t BytesOnDisk(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 ? static_cast<uint64_t>(info.st_blocks) * 512 : 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<WorkspaceWriter>> WorkspaceWriter::Open(const WorkspaceWriterOptions& options) {
  BERTH_RETURN_IF_ERROR(CheckDestination(options.destination));
  const std::string folder = options.destination + ".partial";
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return absl::InvalidArgumentError(absl::StrCat("cannot make the directory ", folder, ": ", error.message()));
  BERTH_ASSIGN_OR_RETURN(OutputFile progress, OutputFile::Open(absl::StrCat(folder, "/", std::string(kWorkspaceProgress))));
  BERTH_RETURN_IF_ERROR(progress.Lock());
  std::unique_ptr<WorkspaceWriter> writer(new WorkspaceWriter(options, std::move(progress)));
  BERTH_RETURN_IF_ERROR(writer->CheckRoom());
  return writer;
}

absl::Status WorkspaceWriter::Resume(uint64_t key) {
  BERTH_RETURN_IF_ERROR(ReadRecords(absl::StrFormat("conversion %016x\n", key)));
  return OpenWeights();
}

std::string WorkspaceWriter::PathOf(std::string_view name) const { return absl::StrCat(folder_, "/", std::string(name)); }

absl::Status WorkspaceWriter::CheckRoom() const {
  uint64_t have = 0;
  for (int rank = 0; rank < options_.ranks; ++rank) {
    have += BytesOnDisk(PathOf(WorkspaceWeightsFile({rank, options_.ranks})));
  }
  std::error_code error;
  const fs::space_info space = fs::space(folder_, error);
  const uint64_t total = options_.file_bytes * options_.ranks;
  const uint64_t need = total - std::min(total, have);
  if (error || space.available >= need) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrFormat("the disk of %s has %d bytes free, and the weights need %d: %d are missing", options_.destination,
                      space.available, need, need - space.available));
}

// Lines "RANK TENSOR CHECKSUM". A last line without its end was not on the disk when the process died.
absl::Status WorkspaceWriter::ReadRecords(const std::string& header) {
  std::ifstream file(PathOf(kWorkspaceProgress), std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!text.starts_with(header)) {
    for (int rank = 0; rank < options_.ranks; ++rank) {
      std::error_code error;
      fs::remove(PathOf(WorkspaceWeightsFile({rank, options_.ranks})), error);
    }
    BERTH_RETURN_IF_ERROR(progress_.Resize(0));
    progress_bytes_ = header.size();
    return progress_.WriteAt(0, BytesOf(header));
  }
  progress_bytes_ = text.rfind('\n') + 1;
  const std::vector<std::string> lines = absl::StrSplit(text.substr(0, progress_bytes_), '\n');
  for (const std::string& line : lines) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    int rank = 0;
    uint64_t tensor = 0, checksum = 0;
    if (words.size() == 3 && absl::SimpleAtoi(words[0], &rank) && absl::SimpleAtoi(words[1], &tensor) &&
        absl::SimpleHexAtoi(words[2], &checksum)) {
      recorded_[{rank, tensor}] = checksum;
    }
  }
  return absl::OkStatus();
}

absl::Status WorkspaceWriter::OpenWeights() {
  for (int rank = 0; rank < options_.ranks; ++rank) {
    BERTH_ASSIGN_OR_RETURN(OutputFile file, OutputFile::Open(PathOf(WorkspaceWeightsFile({rank, options_.ranks}))));
    BERTH_RETURN_IF_ERROR(file.Resize(options_.file_bytes));
    weights_.push_back(std::move(file));
  }
  return absl::OkStatus();
}

std::optional<uint64_t> WorkspaceWriter::Recorded(int rank, size_t tensor) const {
  const auto found = recorded_.find({rank, tensor});
  return found == recorded_.end() ? std::nullopt : std::optional(found->second);
}

absl::Status WorkspaceWriter::Write(int rank, uint64_t offset, absl::Span<const std::byte> bytes) {
  unsynced_bytes_ += bytes.size();
  return weights_[rank].WriteAt(offset, bytes);
}

absl::Status WorkspaceWriter::Record(int rank, size_t tensor, uint64_t checksum) {
  absl::StrAppendFormat(&pending_records_, "%d %d %016x\n", rank, tensor, checksum);
  return unsynced_bytes_ >= options_.sync_bytes ? Flush() : absl::OkStatus();
}

// First the weights, then the records that say so.
absl::Status WorkspaceWriter::Flush() {
  for (OutputFile& file : weights_) BERTH_RETURN_IF_ERROR(file.Sync());
  BERTH_RETURN_IF_ERROR(progress_.WriteAt(progress_bytes_, BytesOf(pending_records_)));
  progress_bytes_ += pending_records_.size();
  pending_records_.clear();
  unsynced_bytes_ = 0;
  return progress_.Sync();
}

absl::Status WorkspaceWriter::Finish(absl::Span<const SmallFile> small_files, const WorkspaceManifest& manifest) {
  BERTH_RETURN_IF_ERROR(Flush());
  for (const SmallFile& file : small_files) BERTH_RETURN_IF_ERROR(WriteWholeFile(PathOf(file.name), file.bytes));
  BERTH_RETURN_IF_ERROR(WriteWholeFile(PathOf(kWorkspaceManifest), FormatWorkspaceManifest(manifest)));
  std::error_code error;
  fs::remove(PathOf(kWorkspaceProgress), error);
  BERTH_RETURN_IF_ERROR(SyncDirectory(folder_));
  BERTH_RETURN_IF_ERROR(CheckDestination(options_.destination));
  if (std::rename(folder_.c_str(), options_.destination.c_str()) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("cannot rename ", folder_, " to ", options_.destination));
  }
  return SyncDirectory(fs::absolute(options_.destination).parent_path().string());
}

}  // namespace berth::loader
