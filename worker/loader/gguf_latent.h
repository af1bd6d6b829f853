#pragma once

#include "absl/status/status.h"
#include "worker/loader/checkpoint.h"
#include "worker/model/decoder_spec.h"

namespace berth::loader {

// Newer files of latent attention have attn_kv_b in two: attn_k_b, each head's rows of the key transposed, and attn_v_b, each
// head's rows of the value. Joins those of every layer to the attn_kv_b that the slots know, in memory of the checkpoint: in
// the type of both when that is f32 or bf16, else in f16. INVALID_ARGUMENT names a tensor that is missing or of a wrong shape.
absl::Status JoinLatentUp(const model::DecoderSpec& spec, Checkpoint& checkpoint);

}  // namespace berth::loader
