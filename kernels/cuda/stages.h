#pragma once

#include "kernels/cuda/context.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/ops.h"

namespace berth::kernels::cuda {

// The stage ops of kernels/ops.h, one file each; arguments are checked by Ops. Queued on the context's stream.
void Embed(Context& context, const EmbedArgs& args);
void Gather(Context& context, const GatherArgs& args);
void AttnIn(Context& context, const AttnInArgs& args);
void LatentIn(Context& context, const LatentInArgs& args);
void Attend(Context& context, const AttendArgs& args);
void LatentOut(Context& context, const LatentOutArgs& args);
void ProjectOut(Context& context, const ProjectOutArgs& args);
void MlpUp(Context& context, const MlpUpArgs& args);
void Moe(Context& context, const MoeArgs& args);
void Head(Context& context, const HeadArgs& args);
void Pool(Context& context, const PoolArgs& args);
void Admit(Context& context, const AdmitArgs& args);
void Sample(Context& context, const SampleArgs& args);

// Reserves what Attend and Moe need.
absl::Status ReserveAttend(Context& context, Allocator& allocator);
absl::Status ReserveMoe(Context& context, const MoeLimits& limits, int64_t max_tokens, int64_t max_hidden,
                        Allocator& allocator);

// A copy between the device and pinned memory of `host` as a kernel: the stream passes it faster than one by a copy engine.
// False: it is not small, not aligned or not pinned, and nothing has been done.
bool CopySmall(Context& context, void* to, const void* from, size_t bytes, const void* host);

// `out` [rows, hidden] = norm of the rows of `in`, or of those that `row` (i32, may be empty) names. Equal dtypes.
void NormRows(Context& context, const Norm& norm, const Tensor& in, const Tensor& row, const Tensor& out);

// out[tokens, N] = in[tokens, K] · Wᵀ + beta * out. `out` is f32 or the activations' dtype; weights have the activations'
// dtype.
void Linear(Context& context, const Tensor& in, const LinearWeight& weight, float beta, const Tensor& out);

// Whether a product takes the adapter, and so cannot be a part of a larger kernel. Where rows are to have the same bits
// whatever is beside them, all of a model with adapters do.
bool TakesAdapter(const Context& context, const ImageAdapter& adapter);
// product[r] += up · (down · in[r]) for the adapter's rows r. Takes context.adapted.
void AddAdapter(Context& context, const ImageAdapter& adapter, const Tensor& in, const Tensor& product);

}  // namespace berth::kernels::cuda
