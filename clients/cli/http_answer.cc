#include "clients/cli/http_answer.h"

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "base/status.h"

namespace berth::cli {
namespace {

constexpr char kHeadEnd[] = "\r\n\r\n";

absl::Status NoHttp(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("not an HTTP/1.1 answer: \"", what.substr(0, 80), "\""));
}

}  // namespace

absl::Status HttpAnswer::ReadHead(absl::string_view head) {
  bool sized = false;
  for (const absl::string_view line : absl::StrSplit(head, "\r\n")) {
    if (code_ == 0) {
      if (!absl::StartsWith(line, "HTTP/1.") || line.size() < 12 || !absl::SimpleAtoi(line.substr(9, 3), &code_))
        return NoHttp(line);
      continue;
    }
    const std::pair<std::string, std::string> header = absl::StrSplit(absl::AsciiStrToLower(line), absl::MaxSplits(':', 1));
    const absl::string_view value = absl::StripAsciiWhitespace(header.second);
    if (header.first == "transfer-encoding") chunked_ = value == "chunked";
    if (header.first == "connection") keeps_ = value != "close";
    if (header.first != "content-length") continue;
    sized = true;
    if (!absl::SimpleAtoi(value, &left_)) return NoHttp(line);
  }
  if (!chunked_ && !sized) return NoHttp("no length");
  part_ = chunked_ ? Part::kChunkSize : left_ > 0 ? Part::kBody : Part::kDone;
  return absl::OkStatus();
}

bool HttpAnswer::TakeLine(std::string* line) {
  const size_t end = in_.find("\r\n");
  if (end == std::string::npos) return false;
  *line = in_.substr(0, end);
  in_.erase(0, end + 2);
  return true;
}

absl::StatusOr<bool> HttpAnswer::Advance() {
  std::string line;
  switch (part_) {
    case Part::kHead: {
      const size_t end = in_.find(kHeadEnd);
      if (end == std::string::npos) return false;
      BERTH_RETURN_IF_ERROR(ReadHead(absl::string_view(in_).substr(0, end)));
      in_.erase(0, end + sizeof(kHeadEnd) - 1);
      return true;
    }
    case Part::kChunkSize:
      if (!TakeLine(&line)) return false;
      if (!absl::SimpleHexAtoi(line.substr(0, line.find(';')), &left_)) return NoHttp(line);
      part_ = left_ > 0 ? Part::kBody : Part::kTrailer;
      return true;
    case Part::kBody: {
      if (in_.empty()) return false;
      const size_t count = std::min(left_, in_.size());
      body_.append(in_, 0, count);
      in_.erase(0, count);
      left_ -= count;
      if (left_ == 0) part_ = chunked_ ? Part::kChunkEnd : Part::kDone;
      return true;
    }
    case Part::kChunkEnd:
      if (!TakeLine(&line)) return false;
      part_ = Part::kChunkSize;
      return true;
    case Part::kTrailer:
      if (!TakeLine(&line)) return false;
      if (line.empty()) part_ = Part::kDone;
      return true;
    case Part::kDone:
      return false;
  }
  return false;
}

absl::Status HttpAnswer::Feed(absl::string_view bytes, absl::FunctionRef<void(absl::string_view)> on_line) {
  in_.append(bytes.data(), bytes.size());
  while (true) {
    BERTH_ASSIGN_OR_RETURN(const bool more, Advance());
    if (!more) break;
  }
  size_t begin = 0;
  for (size_t end; (end = body_.find('\n', begin)) != std::string::npos; begin = end + 1) {
    on_line(absl::StripSuffix(absl::string_view(body_).substr(begin, end - begin), "\r"));
  }
  body_.erase(0, begin);
  if (done() && !body_.empty()) on_line(std::exchange(body_, {}));
  return absl::OkStatus();
}

}  // namespace berth::cli
