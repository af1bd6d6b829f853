#include "tests/support/safetensors_writer.h"

#include "base/check.h"
#include "kernels/cpu/half.h"
#include "nlohmann/json.hpp"

namespace berth::testing {
namespace {

using kernels::DType;

const char* NameOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "F32";
    case DType::kF16:
      return "F16";
    case DType::kBF16:
      return "BF16";
    default:
      BERTH_CHECK(false) << kernels::Info(dtype).name << " has no name in safetensors";
  }
  return "";
}

}  // namespace

StoredTensor StoreFloats(std::string name, std::vector<int64_t> shape, const std::vector<float>& values, DType dtype) {
  StoredTensor tensor{.name = std::move(name), .dtype = dtype, .shape = std::move(shape)};
  if (dtype == DType::kF32) {
    tensor.bytes.assign(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    return tensor;
  }
  for (const float value : values) {
    const uint16_t bits = dtype == DType::kF16 ? kernels::cpu::ToHalf(value) : kernels::cpu::ToBf16(value);
    tensor.bytes.append(reinterpret_cast<const char*>(&bits), sizeof(bits));
  }
  return tensor;
}

std::string SafetensorsFile(const std::vector<StoredTensor>& tensors, int padding) {
  nlohmann::json header = {{"__metadata__", {{"format", "pt"}}}};
  std::string data;
  for (const StoredTensor& tensor : tensors) {
    header[tensor.name] = {{"dtype", NameOf(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    data += tensor.bytes;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8 + padding, ' ');
  return RawSafetensorsFile(text, data);
}

std::string RawSafetensorsFile(std::string_view header, std::string_view data) {
  const uint64_t size = header.size();
  std::string file(reinterpret_cast<const char*>(&size), sizeof(size));
  file += header;
  file += data;
  return file;
}

}  // namespace berth::testing
