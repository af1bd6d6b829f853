#include "worker/loader/materialize.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "kernels/cpu/dequantize.h"
#include "worker/loader/mapped_file.h"
#include "worker/loader/slot_members.h"

namespace berth::loader {
namespace {

using kernels::DType;
using kernels::LinearWeight;
using kernels::Tensor;

class Materializer {
 public:
  Materializer(const model::DecoderSpec& spec, const CheckpointIndex& index, kernels::Allocator& allocator)
      : index_(index), allocator_(allocator), out_{.weights = EmptyWeights(spec)} {}

  absl::StatusOr<MaterializedWeights> Run(const LoadPlan& plan) {
    for (size_t i = 0; i < plan.steps.size();) {
      const absl::Span<const LoadPlan::Step> steps = plan.SlotSteps(i);
      const LoadPlan::Step& first = steps.front();
      if (LinearWeight* matrix = MatrixMember(out_.weights, first.slot, first.layer)) {
        BERTH_RETURN_IF_ERROR(FillMatrix(steps, *matrix));
      } else {
        BERTH_RETURN_IF_ERROR(FillVector(steps, VectorMember(out_.weights, first.slot, first.layer)));
      }
      i += steps.size();
    }
    for (const LoadPlan::Alias& alias : plan.aliases) FillAlias(alias);
    for (const LoadPlan::Duplicate& duplicate : plan.duplicates) BERTH_RETURN_IF_ERROR(Compare(duplicate));
    return std::move(out_);
  }

 private:
  absl::StatusOr<std::byte*> Allocate(size_t bytes) {
    BERTH_ASSIGN_OR_RETURN(kernels::Buffer buffer, allocator_.Allocate(bytes));
    auto shared = std::make_shared<kernels::Buffer>(std::move(buffer));
    out_.memory.push_back(shared);
    return static_cast<std::byte*>(shared->data());
  }

  absl::Status FillMatrix(absl::Span<const LoadPlan::Step> steps, LinearWeight& matrix) {
    matrix.k = steps.front().selection.columns;
    for (const LoadPlan::Step& step : steps) {
      const TensorInfo& tensor = index_[step.tensor];
      const std::byte* data = SelectedInPlace(tensor, step.selection);
      if (data == nullptr) {
        BERTH_ASSIGN_OR_RETURN(std::byte* const packed,
                               Allocate(step.selection.rows() * SelectedRowBytes(tensor, step.selection)));
        CopySelected(tensor, step.selection, packed);
        data = packed;
      }
      matrix.segments.push_back({.dtype = tensor.dtype, .rows = step.selection.rows(), .data = data});
    }
    return absl::OkStatus();
  }

  absl::Status FillVector(absl::Span<const LoadPlan::Step> steps, Tensor& vector) {
    int64_t size = 0;
    for (const LoadPlan::Step& step : steps) size += step.selection.rows();
    BERTH_ASSIGN_OR_RETURN(std::byte* const data, Allocate(size * sizeof(float)));
    vector = Tensor(data, DType::kF32, {size});
    float* out = reinterpret_cast<float*>(data);
    std::vector<std::byte> rows;
    for (const LoadPlan::Step& step : steps) {
      const TensorInfo& tensor = index_[step.tensor];
      rows.resize(step.selection.rows() * SelectedRowBytes(tensor, step.selection));
      CopySelected(tensor, step.selection, rows.data());
      kernels::DequantizeRow(tensor.dtype, rows.data(), out, step.selection.rows());
      out += step.selection.rows();
    }
    return absl::OkStatus();
  }

  // Aliased slots are matrices of one part.
  void FillAlias(const LoadPlan::Alias& alias) {
    const LinearWeight& source = *MatrixMember(out_.weights, alias.source, 0);
    LinearWeight& target = *MatrixMember(out_.weights, alias.slot, 0);
    const LinearWeight::Segment& segment = source.segments.front();
    target.k = source.k;
    target.segments = {{.dtype = segment.dtype,
                        .rows = alias.rows.count,
                        .data = segment.data + alias.rows.begin * kernels::RowBytes(segment.dtype, source.k)}};
  }

  absl::Status Compare(const LoadPlan::Duplicate& duplicate) const {
    const TensorInfo& a = index_[duplicate.tensor];
    const TensorInfo& b = index_[duplicate.original];
    if (std::memcmp(a.data.data(), b.data.data(), a.data.size()) == 0) return absl::OkStatus();
    return InFile(
        a.file, absl::InvalidArgumentError(absl::StrCat("tensor ", a.name, " differs from ", b.name, ", to which it is tied")));
  }

  const CheckpointIndex& index_;
  kernels::Allocator& allocator_;
  MaterializedWeights out_;
};

}  // namespace

absl::StatusOr<MaterializedWeights> Materialize(const model::DecoderSpec& spec, const LoadPlan& plan,
                                                const CheckpointIndex& index, kernels::Allocator& allocator) {
  return Materializer(spec, index, allocator).Run(plan);
}

}  // namespace berth::loader
