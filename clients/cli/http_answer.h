#pragma once

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace berth::cli {

// Reads one HTTP/1.1 answer as its bytes come, its body chunked or of a known length. Thread: one owner.
class HttpAnswer {
 public:
  // `on_line` takes the lines of the body, without their ends. INVALID_ARGUMENT: these are not the bytes of an answer.
  absl::Status Feed(absl::string_view bytes, absl::FunctionRef<void(absl::string_view)> on_line);

  bool done() const { return part_ == Part::kDone; }
  int code() const { return code_; }                // 0: not known yet
  bool keeps_connection() const { return keeps_; }  // after it is done

 private:
  enum class Part { kHead, kChunkSize, kBody, kChunkEnd, kTrailer, kDone };

  // False: more bytes are needed.
  absl::StatusOr<bool> Advance();
  absl::Status ReadHead(absl::string_view head);
  // The next line of in_, without its end; false: it is not whole.
  bool TakeLine(std::string* line);

  Part part_ = Part::kHead;
  int code_ = 0;
  bool chunked_ = false, keeps_ = true;
  size_t left_ = 0;  // of the chunk, or the body
  std::string in_, body_;
};

}  // namespace berth::cli
