#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace berth::text {

// A model of the SentencePiece library. Immutable and thread-safe. Speaks only std types: the library's header declares an
// absl::string_view of its own and cannot meet Abseil's in one source file.
class SentencePieceModel {
 public:
  // Null and an `error` when `serialized` is no ModelProto.
  static std::unique_ptr<SentencePieceModel> Load(std::string_view serialized, std::string& error);
  ~SentencePieceModel();

  // Appends the ids of `text`, or returns an error message.
  std::string Encode(std::string_view text, std::vector<int32_t>& out) const;

  int32_t size() const;
  std::string Piece(int32_t id) const;
  bool IsControl(int32_t id) const;
  int32_t unknown_id() const;  // -1: none, as below
  int32_t bos_id() const;
  int32_t eos_id() const;
  // How many spaces decoding drops at the start of a text: one for a dummy prefix, all when white space is squeezed.
  int32_t SpacesDroppedAtStart() const;

 private:
  SentencePieceModel();
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
};

}  // namespace berth::text
