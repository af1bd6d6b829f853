#pragma once

#include <string>

#include "worker/service/served_model.h"

namespace berth::service {

// The text side of the simulated engine. Ids: 0 ends a sequence, 1 begins a message and is special like it, then one id per
// byte (any prompt is as many tokens as it has bytes), then pieces for output: words, halves of multi-byte characters, and
// parts of "STOP" and "END", so that held-back text and stop strings across token borders are the common case.
struct SimVocabularyIds {
  static constexpr int32_t kEos = 0;
  static constexpr int32_t kMessage = 1;
  static constexpr int32_t kFirstByte = 2;
  static constexpr int32_t kFirstPiece = kFirstByte + 256;
  static constexpr int32_t kEnd = kFirstPiece + 256;
};

ServedModel MakeSimModel(const std::string& name, int context_length);

}  // namespace berth::service
