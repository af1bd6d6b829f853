#include "tests/support/gguf_writer.h"

#include <cstring>

#include "base/check.h"
#include "base/hash.h"
#include "kernels/cpu/half.h"

namespace berth::testing {
namespace {

using kernels::DType;
using loader::GgufMetadata;

template <typename T>
void Put(T value, std::string& out) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void PutString(std::string_view text, std::string& out) {
  Put<uint64_t>(text.size(), out);
  out += text;
}

constexpr uint32_t kUint32 = 4, kInt32 = 5, kFloat32 = 6, kBool = 7, kString = 8, kArray = 9, kInt64 = 11;
constexpr size_t kAlignment = 32;

struct ValueWriter {
  std::string& out;

  void operator()(bool value) const {
    Put(kBool, out);
    Put<uint8_t>(value, out);
  }
  void operator()(int64_t value) const {
    const bool small = value >= 0 && value <= UINT32_MAX;
    Put(small ? kUint32 : kInt64, out);
    if (small) return Put(static_cast<uint32_t>(value), out);
    Put(value, out);
  }
  void operator()(double value) const {
    Put(kFloat32, out);
    Put(static_cast<float>(value), out);
  }
  void operator()(const std::string& value) const {
    Put(kString, out);
    PutString(value, out);
  }
  void Array(uint32_t type, size_t count) const {
    Put(kArray, out);
    Put(type, out);
    Put<uint64_t>(count, out);
  }
  void operator()(const std::vector<int64_t>& values) const {
    Array(kInt32, values.size());
    for (const int64_t value : values) Put(static_cast<int32_t>(value), out);
  }
  void operator()(const std::vector<double>& values) const {
    Array(kFloat32, values.size());
    for (const double value : values) Put(static_cast<float>(value), out);
  }
  void operator()(const std::vector<std::string>& values) const {
    Array(kString, values.size());
    for (const std::string& value : values) PutString(value, out);
  }
};

uint32_t TypeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 0;
    case DType::kF16:
      return 1;
    case DType::kQ4_0:
      return 2;
    case DType::kQ4_1:
      return 3;
    case DType::kQ5_0:
      return 6;
    case DType::kQ5_1:
      return 7;
    case DType::kQ8_0:
      return 8;
    case DType::kQ2_K:
      return 10;
    case DType::kQ3_K:
      return 11;
    case DType::kQ4_K:
      return 12;
    case DType::kQ5_K:
      return 13;
    case DType::kQ6_K:
      return 14;
    case DType::kIQ4_NL:
      return 20;
    case DType::kBF16:
      return 30;
    default:
      BERTH_CHECK(false) << kernels::Info(dtype).name << " has no number in GGUF";
  }
  return 0;
}

void Align(std::string& out) { out.append((kAlignment - out.size() % kAlignment) % kAlignment, '\0'); }

// Byte offsets of the 16-bit scales inside a block, and the largest quant that the first one multiplies.
struct Scales {
  std::vector<size_t> offsets;
  float largest;
};

Scales ScalesOf(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return {{0}, 8};
    case DType::kQ4_1:
      return {{0, 2}, 16};
    case DType::kQ5_0:
      return {{0}, 16};
    case DType::kQ5_1:
      return {{0, 2}, 32};
    case DType::kQ8_0:
    case DType::kIQ4_NL:
      return {{0}, 128};
    case DType::kQ2_K:
      return {{80, 82}, 15 * 4};
    case DType::kQ3_K:
      return {{108}, 32 * 4};
    case DType::kQ4_K:
      return {{0, 2}, 63 * 16};
    case DType::kQ5_K:
      return {{0, 2}, 63 * 32};
    case DType::kQ6_K:
      return {{208}, 128 * 32};
    default:
      BERTH_CHECK(false) << kernels::Info(dtype).name << " is not quantised";
  }
  return {};
}

}  // namespace

void GgufWriter::Set(std::string_view key, const GgufMetadata::Value& value) {
  PutString(key, metadata_);
  std::visit(ValueWriter{metadata_}, value);
  ++metadata_count_;
}

std::vector<std::string> GgufWriter::Split(int count) const {
  std::vector<std::string> files;
  for (int i = 0; i < count; ++i) {
    GgufWriter part;
    if (i == 0) part = *this;
    part.tensors_.assign(tensors_.begin() + tensors_.size() * i / count, tensors_.begin() + tensors_.size() * (i + 1) / count);
    part.Set("split.no", int64_t{i});
    part.Set("split.count", int64_t{count});
    part.Set("split.tensors.count", static_cast<int64_t>(tensors_.size()));
    files.push_back(part.File());
  }
  return files;
}

std::string GgufWriter::File() const {
  std::string out = "GGUF";
  Put<uint32_t>(3, out);
  Put<uint64_t>(tensors_.size(), out);
  Put(metadata_count_, out);
  out += metadata_;
  std::string data;
  for (const StoredTensor& tensor : tensors_) {
    PutString(tensor.name, out);
    Put(static_cast<uint32_t>(tensor.shape.size()), out);
    for (auto dimension = tensor.shape.rbegin(); dimension != tensor.shape.rend(); ++dimension) Put<uint64_t>(*dimension, out);
    Put(TypeOf(tensor.dtype), out);
    Put<uint64_t>(data.size(), out);
    data += tensor.bytes;
    Align(data);
  }
  Align(out);
  return out + data;
}

StoredTensor RandomMatrix(std::string name, DType dtype, int64_t rows, int64_t columns) {
  StoredTensor tensor{.name = std::move(name), .dtype = dtype, .shape = {rows, columns}};
  tensor.bytes.resize(rows * kernels::RowBytes(dtype, columns));
  for (size_t i = 0; i < tensor.bytes.size(); ++i) tensor.bytes[i] = static_cast<char>(base::Hash64(tensor.name, i));
  const Scales scales = ScalesOf(dtype);
  const size_t block = kernels::Info(dtype).block_bytes;
  for (size_t begin = 0; begin < tensor.bytes.size(); begin += block) {
    const uint16_t scale = kernels::cpu::ToHalf((1 + begin / block % 3) / scales.largest);
    for (const size_t offset : scales.offsets) std::memcpy(tensor.bytes.data() + begin + offset, &scale, sizeof(scale));
  }
  return tensor;
}

}  // namespace berth::testing
