#include "worker/runtime/gpu.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace berth::runtime {
namespace {

constexpr int kMostStepTokens = 65535;  // rows of a grid's second dimension

}  // namespace

absl::Status GpuOptions::Validate() const {
  const auto refuse = [](const char* name, auto value, const char* want) {
    return absl::InvalidArgumentError(absl::StrCat(name, " ", value, ", want ", want));
  };
  if (device < 0) return refuse("device", device, "at least 0");
  if (dtype != kernels::DType::kBF16 && dtype != kernels::DType::kF16) {
    return refuse("dtype", std::string(kernels::Info(dtype).name), "bf16 or f16");
  }
  if (slots < 1) return refuse("slots", slots, "at least 1");
  if (max_step_tokens < slots) return refuse("max_step_tokens", max_step_tokens, "one for every slot");
  if (max_step_tokens > kMostStepTokens) {
    return refuse("max_step_tokens", max_step_tokens, absl::StrCat("at most ", kMostStepTokens).c_str());
  }
  if (session_len < 0) return refuse("session_len", session_len, "at least 0");
  if (!(kv_share > 0 && kv_share < 1)) return refuse("kv_share", kv_share, "more than 0 and less than 1");
  return absl::OkStatus();
}

}  // namespace berth::runtime
