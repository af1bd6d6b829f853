#pragma once

#include <cstdint>

#include "worker/text/tokenizer_data.h"

namespace berth::text {

// The vocabulary of the simulated engine. Any text is as many tokens as it has bytes; decoding gives the text back. The ids
// from kFirstPiece on are for output only: multi-byte words, words that begin or end inside a character, and parts of "STOP",
// "END" and "<|im_end|>", so that held-back characters and stop strings across token borders are the common case.
struct SimVocabulary {
  static constexpr int32_t kEos = 0;      // "<eos>", special
  static constexpr int32_t kMessage = 1;  // "<msg>", special
  static constexpr int32_t kFirstByte = 2;
  static constexpr int32_t kFirstPiece = kFirstByte + 256;
  static constexpr int32_t kEnd = 4096;
};

// For MakeTokenizer.
TokenizerData SimTokenizerData();

}  // namespace berth::text
