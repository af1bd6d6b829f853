#include "worker/loader/convert.h"

#include <algorithm>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/status.h"
#include "kernels/cpu/upload.h"
#include "worker/loader/load_plan.h"
#include "worker/loader/materialize.h"
#include "worker/loader/model_files.h"
#include "worker/loader/slot_members.h"
#include "worker/loader/weight_checksum.h"
#include "worker/loader/workspace.h"
#include "worker/loader/workspace_writer.h"

namespace berth::loader {
namespace {

using kernels::DType;
using kernels::LinearWeight;

constexpr size_t kReadAheadBytes = size_t{256} << 20;

// The steps of a plan that fill one slot, and the tensors of the workspace that hold it: one, or one for each step when the
// steps' types differ.
struct Group {
  model::Slot slot = model::Slot::kEmbed;
  int layer = 0;
  size_t first_step = 0, steps = 0;
  size_t first_tensor = 0, tensors = 0;
};

struct Layout {
  std::vector<Group> groups;
  std::vector<WorkspaceTensor> tensors;
  uint64_t bytes = 0;  // of a rank's file
};

class LayoutMaker {
 public:
  LayoutMaker(const CheckpointIndex& index, std::optional<DType> dtype) : index_(index), dtype_(dtype) {}

  absl::StatusOr<Layout> Make(const LoadPlan& plan) {
    for (size_t i = 0; i < plan.steps.size();) {
      const absl::Span<const LoadPlan::Step> steps = plan.SlotSteps(i);
      BERTH_RETURN_IF_ERROR(
          AddGroup({steps.front().slot, steps.front().layer, i, steps.size(), layout_.tensors.size(), 0}, steps));
      i += steps.size();
    }
    return std::move(layout_);
  }

 private:
  DType TypeOf(const LoadPlan::Step& step) const {
    if (step.selection.columns == 0) return DType::kF32;
    return dtype_.value_or(index_[step.tensor].dtype);
  }

  absl::Status AddGroup(Group group, absl::Span<const LoadPlan::Step> steps) {
    const bool whole = std::all_of(steps.begin(), steps.end(),
                                   [&](const LoadPlan::Step& step) { return TypeOf(step) == TypeOf(steps.front()); });
    group.tensors = whole ? 1 : steps.size();
    for (size_t i = 0; i < group.tensors; ++i) {
      const absl::Span<const LoadPlan::Step> own = whole ? steps : steps.subspan(i, 1);
      WorkspaceTensor tensor{
          .name = WorkspaceTensorName(group.slot, group.layer, whole ? model::kAllParts : static_cast<int>(i)),
          .dtype = TypeOf(own.front()),
          .shape = {0}};
      for (const LoadPlan::Step& step : own) tensor.shape[0] += step.selection.rows();
      if (steps.front().selection.columns > 0) tensor.shape.push_back(steps.front().selection.columns);
      BERTH_ASSIGN_OR_RETURN(tensor.bytes, TensorBytes(tensor.dtype, tensor.shape));
      tensor.offset = layout_.bytes;
      layout_.bytes += (tensor.bytes + kWorkspaceAlignment - 1) / kWorkspaceAlignment * kWorkspaceAlignment;
      layout_.tensors.push_back(std::move(tensor));
    }
    layout_.groups.push_back(group);
    return absl::OkStatus();
  }

  const CheckpointIndex& index_;
  const std::optional<DType> dtype_;
  Layout layout_;
};

// Writes one tensor in pieces and takes their checksum.
class PieceWriter {
 public:
  PieceWriter(WorkspaceWriter& writer, int rank, uint64_t offset, std::function<void(size_t)> written)
      : writer_(writer), rank_(rank), offset_(offset), written_(std::move(written)) {}

  absl::Status Append(absl::Span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const size_t size = std::min(kPieceBytes - pending_.size(), bytes.size());
      if (size == kPieceBytes) {
        BERTH_RETURN_IF_ERROR(Write(bytes.subspan(0, size)));
      } else {
        pending_.insert(pending_.end(), bytes.begin(), bytes.begin() + size);
        if (pending_.size() == kPieceBytes) BERTH_RETURN_IF_ERROR(WritePending());
      }
      bytes.remove_prefix(size);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<uint64_t> Finish() {
    if (!pending_.empty()) BERTH_RETURN_IF_ERROR(WritePending());
    return checksum_.value();
  }

 private:
  absl::Status WritePending() {
    BERTH_RETURN_IF_ERROR(Write(pending_));
    pending_.clear();
    return absl::OkStatus();
  }

  absl::Status Write(absl::Span<const std::byte> piece) {
    BERTH_RETURN_IF_ERROR(writer_.Write(rank_, offset_, piece));
    checksum_.AddPiece(WeightChecksum::HashPiece(piece));
    offset_ += piece.size();
    written_(piece.size());
    return absl::OkStatus();
  }

  WorkspaceWriter& writer_;
  const int rank_;
  uint64_t offset_;
  const std::function<void(size_t)> written_;
  std::vector<std::byte> pending_;
  WeightChecksum checksum_;
};

// One slot's weights in the type of the workspace, and their memory.
struct SlotWeights {
  std::vector<LinearWeight::Segment> segments;  // a vector is one segment of one row
  int64_t k = 0;
  std::vector<std::shared_ptr<const void>> memory;
};

class Converter {
 public:
  Converter(const ModelFiles& files, const ConvertOptions& options) : files_(files), options_(options) {}

  absl::StatusOr<Conversion> Run(const std::string& model_name) {
    for (int rank = 0; rank < options_.ranks; ++rank) {
      BERTH_ASSIGN_OR_RETURN(LoadPlan plan,
                             BuildPlan(files_.spec, files_.rules, files_.checkpoint.tensors, {rank, options_.ranks}));
      plans_.push_back(std::move(plan));
    }
    BERTH_ASSIGN_OR_RETURN(layout_, LayoutMaker(files_.checkpoint.tensors, options_.dtype).Make(plans_.front()));
    BERTH_ASSIGN_OR_RETURN(writer_, WorkspaceWriter::Open({.destination = options_.destination,
                                                           .ranks = options_.ranks,
                                                           .file_bytes = layout_.bytes,
                                                           .sync_bytes = options_.sync_bytes}));
    BERTH_RETURN_IF_ERROR(writer_->Resume(base::Hash64(FormatWorkspaceManifest(Manifest(model_name)), Fingerprint(files_))));
    BERTH_RETURN_IF_ERROR(CompareDuplicates());
    for (const WorkspaceTensor& tensor : layout_.tensors) result_.bytes += tensor.bytes * options_.ranks;
    for (int rank = 0; rank < options_.ranks; ++rank) {
      for (const Group& group : layout_.groups) {
        ReadAhead(plans_[rank], group.first_step + group.steps);
        BERTH_RETURN_IF_ERROR(WriteGroup(rank, group));
      }
    }
    BERTH_RETURN_IF_ERROR(writer_->Finish(files_.small_files, Manifest(model_name)));
    return result_;
  }

 private:
  WorkspaceManifest Manifest(const std::string& model_name) const {
    return {.model = model_name, .ranks = options_.ranks, .tensors = layout_.tensors};
  }

  void Advance(uint64_t bytes) {
    done_ += bytes;
    options_.progress(done_, result_.bytes);
  }

  absl::Status CompareDuplicates() const {
    const LoadPlan plan{.duplicates = plans_.front().duplicates};
    return Materialize(files_.spec, plan, files_.checkpoint.tensors, kernels::HostAllocator()).status();
  }

  // Has the disk read what comes next in long runs: page faults would wait for every little one.
  void ReadAhead(const LoadPlan& plan, size_t step) const {
    for (size_t bytes = 0; step < plan.steps.size() && bytes < kReadAheadBytes; ++step) {
      const absl::Span<const std::byte> data = files_.checkpoint.tensors[plan.steps[step].tensor].data;
      WillNeed(data);
      bytes += data.size();
    }
  }

  absl::Status WriteGroup(int rank, const Group& group) {
    bool recorded = true;
    for (size_t i = group.first_tensor; i < group.first_tensor + group.tensors; ++i) {
      const std::optional<uint64_t> checksum = writer_->Recorded(rank, i);
      recorded = recorded && checksum.has_value();
      layout_.tensors[i].checksums.push_back(checksum.value_or(0));
    }
    if (recorded) return SkipGroup(group);
    BERTH_ASSIGN_OR_RETURN(const SlotWeights weights, Compute(plans_[rank], group));
    BERTH_CHECK(group.tensors == 1 || group.tensors == weights.segments.size());
    for (size_t i = 0; i < group.tensors; ++i) {
      const absl::Span<const LinearWeight::Segment> all = weights.segments;
      BERTH_RETURN_IF_ERROR(WriteTensor(rank, group.first_tensor + i, weights.k, group.tensors == 1 ? all : all.subspan(i, 1)));
    }
    return absl::OkStatus();
  }

  absl::Status SkipGroup(const Group& group) {
    for (size_t i = group.first_tensor; i < group.first_tensor + group.tensors; ++i) {
      result_.reused += layout_.tensors[i].bytes;
      Advance(layout_.tensors[i].bytes);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<SlotWeights> Compute(const LoadPlan& plan, const Group& group) const {
    const auto first = plan.steps.begin() + group.first_step;
    BERTH_ASSIGN_OR_RETURN(MaterializedWeights made, Materialize(files_.spec, {.steps = {first, first + group.steps}},
                                                                 files_.checkpoint.tensors, kernels::HostAllocator()));
    SlotWeights out{.memory = std::move(made.memory)};
    LinearWeight* const matrix = MatrixMember(made.weights, group.slot, group.layer);
    if (matrix == nullptr) {
      const kernels::Tensor& vector = VectorMember(made.weights, group.slot, group.layer);
      out.k = vector.elements();
      out.segments = {{DType::kF32, 1, static_cast<const std::byte*>(vector.raw())}};
      return out;
    }
    if (options_.dtype.has_value()) BERTH_RETURN_IF_ERROR(ChangeType(*options_.dtype, *matrix, out.memory));
    out.k = matrix->k;
    out.segments.assign(matrix->segments.begin(), matrix->segments.end());
    return out;
  }

  static absl::Status ChangeType(DType dtype, LinearWeight& matrix, std::vector<std::shared_ptr<const void>>& memory) {
    if (std::all_of(matrix.segments.begin(), matrix.segments.end(),
                    [&](const LinearWeight::Segment& segment) { return segment.dtype == dtype; })) {
      return absl::OkStatus();
    }
    const int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    const auto uploader = kernels::MakeCpuWeightUploader({.dtype = dtype, .threads = threads});
    BERTH_RETURN_IF_ERROR(uploader->Reserve({.matrix_elements = matrix.n() * matrix.k, .weights = 1}));
    BERTH_ASSIGN_OR_RETURN(matrix, uploader->Matrix(matrix));
    BERTH_ASSIGN_OR_RETURN(std::vector<kernels::Buffer> buffers, uploader->Finish());
    for (kernels::Buffer& buffer : buffers) memory.push_back(std::make_shared<kernels::Buffer>(std::move(buffer)));
    return absl::OkStatus();
  }

  absl::Status WriteTensor(int rank, size_t index, int64_t k, absl::Span<const LinearWeight::Segment> segments) {
    PieceWriter out(*writer_, rank, layout_.tensors[index].offset, [this](size_t bytes) { Advance(bytes); });
    for (const LinearWeight::Segment& segment : segments) {
      BERTH_RETURN_IF_ERROR(out.Append({segment.data, segment.rows * kernels::RowBytes(segment.dtype, k)}));
    }
    BERTH_ASSIGN_OR_RETURN(layout_.tensors[index].checksums[rank], out.Finish());
    return writer_->Record(rank, index, layout_.tensors[index].checksums[rank]);
  }

  const ModelFiles& files_;
  const ConvertOptions& options_;
  std::vector<LoadPlan> plans_;
  Layout layout_;
  std::unique_ptr<WorkspaceWriter> writer_;
  Conversion result_;
  uint64_t done_ = 0;
};

absl::Status CheckOptions(const ConvertOptions& options) {
  if (options.destination.empty()) return absl::InvalidArgumentError("the destination is empty");
  if (options.ranks < 1) return absl::InvalidArgumentError(absl::StrCat(options.ranks, " ranks, want 1 or more"));
  if (!options.dtype || *options.dtype == DType::kF32 || *options.dtype == DType::kF16 || *options.dtype == DType::kBF16) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("cannot convert to ", std::string(kernels::Info(*options.dtype).name), ", want f32, f16 or bf16"));
}

}  // namespace

absl::StatusOr<Conversion> ConvertModel(const std::string& path, const ConvertOptions& options) {
  BERTH_RETURN_IF_ERROR(CheckOptions(options));
  BERTH_ASSIGN_OR_RETURN(const ModelFiles files, OpenModel(path, LoadFormat::kCheckpoint));
  if (files.checkpoint.verifier != nullptr) {
    if (absl::Status verified = files.checkpoint.verifier->Verify(); !verified.ok()) return InFile(path, verified);
  }
  ConvertOptions own = options;
  const auto last = own.destination.find_last_not_of('/');
  own.destination.resize(last == std::string::npos ? 1 : last + 1);
  absl::StatusOr<Conversion> done = Converter(files, own).Run(files.name.empty() ? ModelName(path) : files.name);
  if (!done.ok()) return InFile(path, done.status());
  return done;
}

}  // namespace berth::loader
