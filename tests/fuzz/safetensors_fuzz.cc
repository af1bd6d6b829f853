#include <cstddef>
#include <cstdint>

#include "worker/loader/safetensors.h"

// A safetensors file; every tensor's bytes are read.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto tensors = berth::loader::ParseSafetensors({reinterpret_cast<const std::byte*>(data), size});
  if (!tensors.ok()) return 0;
  volatile unsigned sum = 0;
  for (const auto& tensor : *tensors) {
    for (const std::byte byte : tensor.data) sum = sum + static_cast<unsigned>(byte);
  }
  return 0;
}
