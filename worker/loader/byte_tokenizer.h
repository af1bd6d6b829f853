#pragma once

#include <cstdint>

#include "worker/text/tokenizer_data.h"

namespace berth::loader {

// The tokenizer of a model that has none: a text is as many tokens as it has bytes; the ids from 256 up to `vocab`, which only
// such a model's output has, read " <id>". Its chat template writes a line per message.
text::TokenizerData ByteTokenizerData(int32_t vocab);

}  // namespace berth::loader
