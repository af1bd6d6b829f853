#include "worker/loader/safetensors.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"
#include "nlohmann/json.hpp"
#include "worker/loader/byte_reader.h"

namespace berth::loader {
namespace {

using Json = nlohmann::json;
using kernels::DType;

constexpr size_t kMaxDimensions = 8;

std::optional<DType> ToDType(const std::string& name) {
  if (name == "F32") return DType::kF32;
  if (name == "F16") return DType::kF16;
  if (name == "BF16") return DType::kBF16;
  return std::nullopt;
}

absl::StatusOr<uint64_t> Number(const Json& json) {
  if (!json.is_number_unsigned()) {  // dump() of a list needs as much stack as it nests
    const std::string value = json.is_structured() ? json.type_name() : json.dump();
    return absl::InvalidArgumentError(absl::StrCat("want a natural number, not ", value));
  }
  return json.get<uint64_t>();
}

absl::StatusOr<std::vector<int64_t>> Shape(const Json& entry) {
  const auto shape = entry.find("shape");
  if (shape == entry.end() || !shape->is_array() || shape->size() > kMaxDimensions) {
    return absl::InvalidArgumentError(absl::StrCat("shape: want a list of at most ", kMaxDimensions, " numbers"));
  }
  std::vector<int64_t> out;
  for (const Json& dimension : *shape) {
    BERTH_ASSIGN_OR_RETURN(const uint64_t value, Number(dimension));
    if (value > static_cast<uint64_t>(INT64_MAX))
      return absl::InvalidArgumentError(absl::StrCat("shape: ", value, " is too large"));
    out.push_back(static_cast<int64_t>(value));
  }
  return out;
}

absl::StatusOr<TensorInfo> ParseTensor(const std::string& name, const Json& entry, absl::Span<const std::byte> data) {
  TensorInfo info{.name = name};
  if (!entry.is_object()) return absl::InvalidArgumentError("want an object");
  const auto dtype = entry.find("dtype");
  if (dtype == entry.end() || !dtype->is_string()) return absl::InvalidArgumentError("dtype: want a string");
  const std::optional<DType> known = ToDType(dtype->get<std::string>());
  if (!known) {
    const bool packed = name.ends_with(".qweight") || name.ends_with(".qzeros") || name.ends_with("weight_packed");
    return absl::UnimplementedError(
        absl::StrCat("has type ", dtype->dump(), ": want F32, F16 or BF16",
                     packed ? " (the checkpoint is quantised, and its config.json does not say how)" : ""));
  }
  info.dtype = *known;
  BERTH_ASSIGN_OR_RETURN(info.shape, Shape(entry));

  const auto offsets = entry.find("data_offsets");
  if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2) {
    return absl::InvalidArgumentError("data_offsets: want two numbers");
  }
  BERTH_ASSIGN_OR_RETURN(const uint64_t begin, Number((*offsets)[0]));
  BERTH_ASSIGN_OR_RETURN(const uint64_t end, Number((*offsets)[1]));
  BERTH_ASSIGN_OR_RETURN(const size_t size, TensorBytes(info.dtype, info.shape));
  if (begin > end || end > data.size()) {
    return absl::InvalidArgumentError(absl::StrCat("truncated: data ", begin, " to ", end, " of ", data.size(), " bytes"));
  }
  if (end - begin != size) {
    return absl::InvalidArgumentError(
        absl::StrCat("has ", end - begin, " bytes, want ", size, " for shape ", ShapeText(info.shape)));
  }
  info.data = data.subspan(begin, size);
  return info;
}

absl::Status CheckCover(const CheckpointIndex& tensors, absl::Span<const std::byte> data) {
  std::vector<const TensorInfo*> sorted;
  for (const TensorInfo& tensor : tensors) sorted.push_back(&tensor);
  std::sort(sorted.begin(), sorted.end(), [](const TensorInfo* a, const TensorInfo* b) {
    return std::pair(a->data.data(), a->data.size()) < std::pair(b->data.data(), b->data.size());
  });
  const std::byte* at = data.data();
  for (const TensorInfo* tensor : sorted) {
    if (tensor->data.data() != at) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", tensor->name, " begins at byte ",
                                                     tensor->data.data() - data.data(), " of the data, want ",
                                                     at - data.data()));
    }
    at += tensor->data.size();
  }
  const size_t end = at - data.data();
  if (end == data.size()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("tensors end at byte ", end, " of the data, which has ", data.size()));
}

}  // namespace

absl::StatusOr<CheckpointIndex> ParseSafetensors(absl::Span<const std::byte> bytes) {
  ByteReader reader(bytes);
  BERTH_ASSIGN_OR_RETURN(const uint64_t header_size, reader.Read<uint64_t>());
  BERTH_ASSIGN_OR_RETURN(const std::string_view header, reader.ReadBytes(header_size));
  const Json json = Json::parse(header, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return absl::InvalidArgumentError("the header is not a JSON object");

  const absl::Span<const std::byte> data = bytes.subspan(reader.offset());
  CheckpointIndex tensors;
  for (const auto& [name, entry] : json.items()) {
    if (name == "__metadata__") continue;
    absl::StatusOr<TensorInfo> tensor = ParseTensor(name, entry, data);
    if (!tensor.ok())
      return absl::Status(tensor.status().code(), absl::StrCat("tensor ", name, ": ", tensor.status().message()));
    tensors.push_back(*std::move(tensor));
  }
  BERTH_RETURN_IF_ERROR(CheckCover(tensors, data));
  return tensors;
}

size_t SafetensorsDataOffset(absl::Span<const std::byte> bytes) {
  const absl::StatusOr<uint64_t> header_size = ByteReader(bytes).Read<uint64_t>();
  BERTH_CHECK(header_size.ok() && *header_size <= bytes.size() - 8);
  return 8 + *header_size;
}

}  // namespace berth::loader
