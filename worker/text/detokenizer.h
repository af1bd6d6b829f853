#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/types/span.h"
#include "worker/text/tokenizer.h"

namespace berth::text {

// Turns the growing output of one choice into text, token by token: the concatenation of all it returned equals
// Tokenizer::Decode of the whole output, and no return value ends inside a UTF-8 character. A pure function of the ids so far.
// Thread: one at a time.
class StreamingDetokenizer {
 public:
  // `prompt_tail`: the last tokens of the prompt, which decide whether the output starts a text (leading space) or goes on.
  StreamingDetokenizer(const Tokenizer& tokenizer, bool skip_special, absl::Span<const int32_t> prompt_tail);

  // Text that became final with these tokens.
  std::string Append(absl::Span<const int32_t> ids);
  // What was held back: an unfinished character as U+FFFD. No Append afterwards.
  std::string Finish();

 private:
  void AppendByte(char byte, std::string& out);
  void AppendPiece(std::string_view bytes, bool strip, std::string& out);
  void EndByteRun(std::string& out);
  void Emit(std::string_view text, bool strip, std::string& out);

  const Tokenizer& tokenizer_;
  bool skip_special_;
  bool at_first_token_;
  int32_t spaces_to_strip_;  // how many more spaces the start of the text may lose
  std::string pending_;      // bytes of an unfinished character, or of an unfinished run of byte tokens
};

}  // namespace berth::text
