#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/loader/model_files.h"
#include "worker/loader/output_file.h"
#include "worker/loader/workspace.h"

namespace berth::loader {

struct WorkspaceWriterOptions {
  std::string destination;
  int ranks = 1;
  uint64_t file_bytes = 0;  // of each rank's weights
  uint64_t sync_bytes = 0;  // what is lost at most when the process dies
};

// The files of a workspace that is being made, in `destination`.partial, and the records of the tensors that are on the disk.
// One process at a time.
class WorkspaceWriter {
 public:
  // ALREADY_EXISTS for the destination, RESOURCE_EXHAUSTED when the disk has no room, FAILED_PRECONDITION when another process
  // writes there.
  static absl::StatusOr<std::unique_ptr<WorkspaceWriter>> Open(const WorkspaceWriterOptions& options);

  // Once, before all others. Takes up what an earlier process left there if it had the same key (of what is converted and how),
  // else throws it away.
  absl::Status Resume(uint64_t key);

  // The checksum of a tensor that an earlier process wrote.
  std::optional<uint64_t> Recorded(int rank, size_t tensor) const;

  absl::Status Write(int rank, uint64_t offset, absl::Span<const std::byte> bytes);
  // All bytes of that tensor are written.
  absl::Status Record(int rank, size_t tensor, uint64_t checksum);

  // The workspace is complete: it gets its name.
  absl::Status Finish(absl::Span<const SmallFile> small_files, const WorkspaceManifest& manifest);

 private:
  WorkspaceWriter(const WorkspaceWriterOptions& options, OutputFile progress)
      : options_(options), folder_(options.destination + ".partial"), progress_(std::move(progress)) {}

  std::string PathOf(std::string_view name) const;
  absl::Status CheckRoom() const;
  absl::Status ReadRecords(const std::string& header);
  absl::Status OpenWeights();
  absl::Status Flush();

  const WorkspaceWriterOptions options_;
  const std::string folder_;
  OutputFile progress_;
  uint64_t progress_bytes_ = 0;
  std::vector<OutputFile> weights_;
  std::map<std::pair<int, size_t>, uint64_t> recorded_;
  std::string pending_records_;
  uint64_t unsynced_bytes_ = 0;
};

}  // namespace berth::loader
