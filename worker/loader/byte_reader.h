#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status.h"

namespace berth::loader {

// Reads little-endian values one behind the other and never past the end. What is not there is
// INVALID_ARGUMENT with the offset.
class ByteReader {
 public:
  explicit ByteReader(absl::Span<const std::byte> bytes) : bytes_(bytes) {}

  size_t offset() const { return offset_; }
  size_t left() const { return bytes_.size() - offset_; }

  template <typename T>
  absl::StatusOr<T> Read() {
    BERTH_RETURN_IF_ERROR(Need(sizeof(T)));
    T value;
    std::memcpy(&value, bytes_.data() + offset_, sizeof(T));
    offset_ += sizeof(T);
    return value;
  }

  absl::StatusOr<std::string_view> ReadBytes(uint64_t size) {
    BERTH_RETURN_IF_ERROR(Need(size));
    const std::string_view view(reinterpret_cast<const char*>(bytes_.data()) + offset_, size);
    offset_ += size;
    return view;
  }

 private:
  absl::Status Need(uint64_t size) const {
    if (size <= left()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("truncated: ", size, " bytes wanted at offset ", offset_, ", ", left(), " left"));
  }

  absl::Span<const std::byte> bytes_;
  size_t offset_ = 0;
};

}  // namespace berth::loader
