#pragma once

#include <memory>
#include <string>

#include "proto/berth/v1/inference.pb.h"
#include "proto/rpc/server_call.h"
#include "worker/service/generation_core.h"

namespace berth::service {

using StreamGenerateCall = rpc::ServerStreamCall<v1::StreamGenerateRequest, v1::StreamGenerateResponse>;
using GenerateCall = rpc::UnaryCall<v1::GenerateRequest, v1::GenerateResponse>;

// Run a generation for a caller that is connected to this worker itself. What a slow caller has not read yet stays in the token
// log and is merged. Thread: I/O thread, which must be the call's shard.
void StreamToCaller(GenerationCore& core, const std::string& tenant, const std::shared_ptr<StreamGenerateCall>& call);
void AnswerCaller(GenerationCore& core, const std::string& tenant, const std::shared_ptr<GenerateCall>& call);

}  // namespace berth::service
