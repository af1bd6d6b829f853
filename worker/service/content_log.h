#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proto/berth/v1/generation.pb.h"
#include "worker/text/output_parser.h"

namespace berth::service {

// How the output of one choice is read.
struct ContentRules {
  text::OutputFormat format;  // nothing: all is text
  bool opens_reasoning = false;
  std::string opening;  // of the answer, at the end of the prompt
  std::vector<std::string> tool_names;
  uint64_t call_seed = 0;  // ids of calls are a function of it and of their index
};

// What one choice has to say, as parts of text, of reasoning and of tool calls, one after the other in one string. Thread: one
// at a time.
class ContentLog {
 public:
  explicit ContentLog(const ContentRules& rules);

  void Append(std::string_view text);
  void Finish();
  void Truncate(size_t size);

  size_t size() const { return content_.size(); }
  // The end of the part that begins at `begin` or that `begin` is inside of.
  size_t PartEnd(size_t begin) const;
  // Sets the content of a delta to [begin, end), which lies in one part.
  void Fill(size_t begin, size_t end, v1::Delta* delta) const;
  bool has_calls() const { return has_calls_; }

 private:
  struct Part {
    size_t begin = 0;
    text::OutputPiece::Kind kind = text::OutputPiece::Kind::kText;
    int call = 0;
  };
  // The first that begins behind `position`.
  std::vector<Part>::const_iterator NextPart(size_t position) const;
  void Take(const std::vector<text::OutputPiece>& pieces);
  std::string CallId(int call) const;

  const uint64_t call_seed_;
  std::optional<text::OutputParser> parser_;
  std::string content_;
  std::vector<Part> parts_;  // in order; none: all is text
  bool has_calls_ = false;
};

}  // namespace berth::service
