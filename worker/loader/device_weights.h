#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "kernels/weight_uploader.h"
#include "worker/loader/materialize.h"
#include "worker/loader/progress.h"
#include "worker/model/decoder_spec.h"
#include "worker/model/weights.h"

namespace berth::loader {

// Copies of `host`, which may go when this returns, in the uploader's memory: every matrix one segment of its dtype, every
// vector f32. A tied head shares the embedding's storage. Adapters on rows of images come only with `image_rows`: text needs no
// memory for them. Errors are the uploader's.
absl::StatusOr<MaterializedWeights> UploadWeights(const model::DecoderSpec& spec, const model::DecoderWeights& host,
                                                  kernels::WeightUploader& uploader, const Progress& progress = nullptr,
                                                  bool image_rows = false);

// Weights of no checkpoint: matrices of deviation 0.02, each a function of (seed, slot, layer); norms 1, biases 0; no adapters.
absl::StatusOr<MaterializedWeights> RandomWeights(const model::DecoderSpec& spec, uint64_t seed,
                                                  kernels::WeightUploader& uploader, const Progress& progress = nullptr);

}  // namespace berth::loader
