#include "worker/loader/gguf.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "worker/loader/byte_reader.h"

namespace berth::loader {
namespace {

using kernels::DType;

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint32_t kVersion = 3;
constexpr int64_t kDefaultAlignment = 32;
constexpr int64_t kMaxAlignment = 1 << 20;
constexpr uint32_t kMaxDimensions = 4;
constexpr size_t kMaxKeyBytes = 65535;
// A tensor's entry: name length, dimension count, one dimension, type, offset.
constexpr size_t kMinTensorEntry = 8 + 4 + 8 + 4 + 8;
// A metadata entry: key length, type, one byte.
constexpr size_t kMinMetadataEntry = 8 + 4 + 1;

enum ValueType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};

// Errors inside an entry get the entry's name in front.
absl::Status Named(std::string_view what, std::string_view name, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrFormat("%s %s: %s", what, name, status.message()));
}

std::optional<DType> ToDType(uint32_t type) {
  switch (type) {
    case 0:
      return DType::kF32;
    case 1:
      return DType::kF16;
    case 2:
      return DType::kQ4_0;
    case 3:
      return DType::kQ4_1;
    case 6:
      return DType::kQ5_0;
    case 7:
      return DType::kQ5_1;
    case 8:
      return DType::kQ8_0;
    case 10:
      return DType::kQ2_K;
    case 11:
      return DType::kQ3_K;
    case 12:
      return DType::kQ4_K;
    case 13:
      return DType::kQ5_K;
    case 14:
      return DType::kQ6_K;
    case 20:
      return DType::kIQ4_NL;
    case 30:
      return DType::kBF16;
    default:
      return std::nullopt;
  }
}

absl::StatusOr<std::string> ReadString(ByteReader& reader) {
  BERTH_ASSIGN_OR_RETURN(const uint64_t size, reader.Read<uint64_t>());
  BERTH_ASSIGN_OR_RETURN(const std::string_view bytes, reader.ReadBytes(size));
  return std::string(bytes);
}

template <typename T>
absl::StatusOr<int64_t> ReadInteger(ByteReader& reader) {
  BERTH_ASSIGN_OR_RETURN(const T value, reader.Read<T>());
  if constexpr (std::is_same_v<T, uint64_t>) {
    if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return absl::InvalidArgumentError(absl::StrCat("the number ", value, " is too large"));
    }
  }
  return static_cast<int64_t>(value);
}

absl::StatusOr<int64_t> ReadBool(ByteReader& reader) {
  BERTH_ASSIGN_OR_RETURN(const uint8_t value, reader.Read<uint8_t>());
  if (value > 1) return absl::InvalidArgumentError(absl::StrCat("a bool is ", value));
  return value;
}

absl::StatusOr<GgufMetadata::Value> ReadScalar(uint32_t type, ByteReader& reader) {
  const auto integer = [&](absl::StatusOr<int64_t> value) -> absl::StatusOr<GgufMetadata::Value> {
    if (!value.ok()) return value.status();
    return *value;
  };
  switch (type) {
    case kUint8:
      return integer(ReadInteger<uint8_t>(reader));
    case kInt8:
      return integer(ReadInteger<int8_t>(reader));
    case kUint16:
      return integer(ReadInteger<uint16_t>(reader));
    case kInt16:
      return integer(ReadInteger<int16_t>(reader));
    case kUint32:
      return integer(ReadInteger<uint32_t>(reader));
    case kInt32:
      return integer(ReadInteger<int32_t>(reader));
    case kUint64:
      return integer(ReadInteger<uint64_t>(reader));
    case kInt64:
      return integer(ReadInteger<int64_t>(reader));
    case kFloat32: {
      BERTH_ASSIGN_OR_RETURN(const float value, reader.Read<float>());
      return static_cast<double>(value);
    }
    case kFloat64: {
      BERTH_ASSIGN_OR_RETURN(const double value, reader.Read<double>());
      return value;
    }
    case kBool: {
      BERTH_ASSIGN_OR_RETURN(const int64_t value, ReadBool(reader));
      return value != 0;
    }
    case kString: {
      BERTH_ASSIGN_OR_RETURN(std::string value, ReadString(reader));
      return value;
    }
    default:
      return absl::InvalidArgumentError(absl::StrCat("value type ", type, " does not exist"));
  }
}

template <typename T>
absl::StatusOr<GgufMetadata::Value> ReadElements(uint32_t type, uint64_t count, ByteReader& reader) {
  std::vector<T> values;
  values.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    BERTH_ASSIGN_OR_RETURN(GgufMetadata::Value value, ReadScalar(type, reader));
    if (const bool* flag = std::get_if<bool>(&value)) value = static_cast<int64_t>(*flag);
    values.push_back(std::get<T>(std::move(value)));
  }
  return values;
}

size_t MinBytes(uint32_t type) {
  switch (type) {
    case kUint16:
    case kInt16:
      return 2;
    case kUint32:
    case kInt32:
    case kFloat32:
      return 4;
    case kUint64:
    case kInt64:
    case kFloat64:
    case kString:
      return 8;
    default:
      return 1;
  }
}

absl::StatusOr<GgufMetadata::Value> ReadValue(ByteReader& reader) {
  BERTH_ASSIGN_OR_RETURN(const uint32_t type, reader.Read<uint32_t>());
  if (type != kArray) return ReadScalar(type, reader);
  BERTH_ASSIGN_OR_RETURN(const uint32_t element_type, reader.Read<uint32_t>());
  BERTH_ASSIGN_OR_RETURN(const uint64_t count, reader.Read<uint64_t>());
  if (count > reader.left() / MinBytes(element_type)) {
    return absl::InvalidArgumentError(absl::StrCat("an array of ", count, " elements in ", reader.left(), " bytes"));
  }
  switch (element_type) {
    case kArray:
      return absl::UnimplementedError("arrays of arrays are not supported");
    case kString:
      return ReadElements<std::string>(element_type, count, reader);
    case kFloat32:
    case kFloat64:
      return ReadElements<double>(element_type, count, reader);
    default:
      return ReadElements<int64_t>(element_type, count, reader);
  }
}

absl::Status ReadMetadata(uint64_t count, ByteReader& reader, GgufMetadata& metadata) {
  for (uint64_t i = 0; i < count; ++i) {
    BERTH_ASSIGN_OR_RETURN(std::string key, ReadString(reader));
    if (key.size() > kMaxKeyBytes) return absl::InvalidArgumentError(absl::StrCat("a metadata key has ", key.size(), " bytes"));
    absl::StatusOr<GgufMetadata::Value> value = ReadValue(reader);
    if (!value.ok()) return Named("metadata", key, value.status());
    if (!metadata.Add(key, *std::move(value)))
      return absl::InvalidArgumentError(absl::StrCat("metadata ", key, " occurs twice"));
  }
  return absl::OkStatus();
}

struct TensorEntry {
  TensorInfo info;
  uint64_t offset = 0;
};

absl::Status ReadTensorBody(ByteReader& reader, TensorEntry& entry) {
  BERTH_ASSIGN_OR_RETURN(const uint32_t dimensions, reader.Read<uint32_t>());
  if (dimensions == 0 || dimensions > kMaxDimensions) {
    return absl::InvalidArgumentError(absl::StrCat(dimensions, " dimensions: want 1 to ", kMaxDimensions));
  }
  for (uint32_t i = 0; i < dimensions; ++i) {
    BERTH_ASSIGN_OR_RETURN(const int64_t dimension, ReadInteger<uint64_t>(reader));
    entry.info.shape.push_back(dimension);
  }
  std::reverse(entry.info.shape.begin(), entry.info.shape.end());  // GGUF writes the contiguous dimension first
  BERTH_ASSIGN_OR_RETURN(const uint32_t type, reader.Read<uint32_t>());
  const std::optional<DType> dtype = ToDType(type);
  if (!dtype) {
    return absl::UnimplementedError(
        absl::StrCat("has GGUF type ", type, ": want F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K … Q6_K or IQ4_NL"));
  }
  entry.info.dtype = *dtype;
  BERTH_ASSIGN_OR_RETURN(entry.offset, reader.Read<uint64_t>());
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TensorEntry>> ReadTensors(uint64_t count, ByteReader& reader) {
  std::vector<TensorEntry> entries;
  entries.reserve(count);
  absl::flat_hash_set<std::string> names;
  for (uint64_t i = 0; i < count; ++i) {
    TensorEntry entry;
    BERTH_ASSIGN_OR_RETURN(entry.info.name, ReadString(reader));
    if (absl::Status status = ReadTensorBody(reader, entry); !status.ok()) return Named("tensor", entry.info.name, status);
    if (!names.insert(entry.info.name).second) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", entry.info.name, " occurs twice"));
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

absl::Status PlaceTensor(absl::Span<const std::byte> data, uint64_t alignment, TensorEntry& entry) {
  BERTH_ASSIGN_OR_RETURN(const size_t size, TensorBytes(entry.info.dtype, entry.info.shape));
  if (entry.offset % alignment != 0) {
    return absl::InvalidArgumentError(absl::StrCat("offset ", entry.offset, " is no multiple of ", alignment));
  }
  if (entry.offset > data.size() || size > data.size() - entry.offset) {
    return absl::InvalidArgumentError(absl::StrCat("truncated: ", size, " bytes wanted at offset ", entry.offset,
                                                   " of the tensor data, which has ", data.size()));
  }
  entry.info.data = data.subspan(entry.offset, size);
  return absl::OkStatus();
}

absl::StatusOr<int64_t> Alignment(const GgufMetadata& metadata) {
  if (!metadata.Has("general.alignment")) return kDefaultAlignment;
  BERTH_ASSIGN_OR_RETURN(const int64_t alignment, metadata.Int("general.alignment"));
  if (alignment < 8 || alignment > kMaxAlignment || alignment % 8 != 0) {
    return metadata.Error("general.alignment", absl::StrCat("want a multiple of 8 up to ", kMaxAlignment));
  }
  return alignment;
}

}  // namespace

absl::StatusOr<GgufFile> ParseGguf(absl::Span<const std::byte> bytes) {
  ByteReader reader(bytes);
  BERTH_ASSIGN_OR_RETURN(const uint32_t magic, reader.Read<uint32_t>());
  if (magic != kMagic) return absl::InvalidArgumentError("does not begin with GGUF");
  BERTH_ASSIGN_OR_RETURN(const uint32_t version, reader.Read<uint32_t>());
  if (version != kVersion) return absl::UnimplementedError(absl::StrCat("GGUF version ", version, ": want ", kVersion));
  BERTH_ASSIGN_OR_RETURN(const uint64_t tensor_count, reader.Read<uint64_t>());
  BERTH_ASSIGN_OR_RETURN(const uint64_t metadata_count, reader.Read<uint64_t>());
  if (tensor_count > reader.left() / kMinTensorEntry || metadata_count > reader.left() / kMinMetadataEntry) {
    return absl::InvalidArgumentError(absl::StrCat("truncated: ", tensor_count, " tensors and ", metadata_count,
                                                   " metadata entries in ", bytes.size(), " bytes"));
  }

  GgufFile file;
  BERTH_RETURN_IF_ERROR(ReadMetadata(metadata_count, reader, file.metadata));
  file.metadata_end = reader.offset();
  BERTH_ASSIGN_OR_RETURN(std::vector<TensorEntry> entries, ReadTensors(tensor_count, reader));
  BERTH_ASSIGN_OR_RETURN(const int64_t alignment, Alignment(file.metadata));
  file.data_offset = std::min((reader.offset() + alignment - 1) / alignment * alignment, bytes.size());
  const absl::Span<const std::byte> data = bytes.subspan(file.data_offset);
  for (TensorEntry& entry : entries) {
    if (absl::Status status = PlaceTensor(data, alignment, entry); !status.ok())
      return Named("tensor", entry.info.name, status);
    file.tensors.push_back(std::move(entry.info));
  }
  return file;
}

}  // namespace berth::loader
