#include "worker/text/output_parser.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"

namespace berth::text {
namespace {

constexpr std::string_view kThink = "<think>", kEndThink = "</think>";
constexpr std::string_view kMistralArguments = "[ARGS]";
// Of a function: longer ones are none.
constexpr size_t kMaxNameBytes = 256;

bool IsBlank(char c) { return absl::ascii_isspace(static_cast<unsigned char>(c)); }

std::string_view BeginMark(ToolFormat format) {
  switch (format) {
    case ToolFormat::kNone:
      return "";
    case ToolFormat::kHermes:
      return "<tool_call>";
    case ToolFormat::kLlama3:
      return "<|python_tag|>";
    case ToolFormat::kInternLm2:
      return "<|action_start|><|plugin|>";
    case ToolFormat::kMistral:
      return "[TOOL_CALLS]";
  }
  return "";
}

std::string_view EndMark(ToolFormat format) {
  if (format == ToolFormat::kHermes) return "</tool_call>";
  return format == ToolFormat::kInternLm2 ? "<|action_end|>" : "";
}

}  // namespace

OutputParser::OutputParser(const OutputFormat& format, bool opens_reasoning, std::vector<std::string> tools)
    : format_(format),
      tools_(std::move(tools)),
      begin_mark_(BeginMark(format.tools)),
      end_mark_(EndMark(format.tools)),
      place_(opens_reasoning ? Place::kReasoning : Place::kStart),
      drop_blanks_(opens_reasoning) {}

void OutputParser::Append(std::string_view text, std::vector<OutputPiece>& pieces) {
  out_ = &pieces;
  for (const char c : text) Step(c);
}

void OutputParser::Finish(std::vector<OutputPiece>& pieces) {
  out_ = &pieces;
  if (place_ == Place::kStart) place_ = Place::kText;
  if (place_ == Place::kText || place_ == Place::kReasoning) {
    const Kind kind = place_ == Place::kText ? Kind::kText : Kind::kReasoning;
    for (const char c : std::exchange(held_, {})) Plain(kind, c);
    if (kind == Kind::kText) Emit(kind, blanks_);
    return;
  }
  if (!named_) ReleaseRaw();
}

void OutputParser::Step(char c) {
  switch (place_) {
    case Place::kStart:
      return StepStart(c);
    case Place::kReasoning:
      return StepReasoning(c);
    case Place::kText:
      return StepText(c);
    case Place::kMistralKind:
      raw_.push_back(c);
      if (c == '[') place_ = Place::kCall;
      if (c == '[' || IsBlank(c)) return;
      raw_.pop_back();
      place_ = Place::kMistralName;
      return StepMistralName(c);
    case Place::kMistralName:
      return StepMistralName(c);
    case Place::kCall:
      return StepCall(c);
    case Place::kBetween:
      return StepBetween(c);
    case Place::kSkip:
      return;
  }
}

void OutputParser::StepStart(char c) {
  if (held_.empty() && IsBlank(c)) {
    blanks_.push_back(c);
    return;
  }
  held_.push_back(c);
  if (format_.reasoning && held_ == kThink) {
    held_.clear();
    blanks_.clear();
    drop_blanks_ = true;
    place_ = Place::kReasoning;
  } else if (!format_.reasoning || !kThink.starts_with(held_)) {
    place_ = Place::kText;
    for (const char each : std::exchange(held_, {})) Step(each);
  }
}

void OutputParser::StepReasoning(char c) {
  held_.push_back(c);
  while (!kEndThink.starts_with(held_)) {
    Plain(Kind::kReasoning, held_.front());
    held_.erase(0, 1);
  }
  if (held_ != kEndThink) return;
  held_.clear();
  blanks_.clear();
  drop_blanks_ = true;
  place_ = Place::kText;
}

void OutputParser::StepText(char c) {
  if (begin_mark_.empty()) return Plain(Kind::kText, c);
  const bool no_mark_needed = format_.tools == ToolFormat::kLlama3 && !any_text_ && held_.empty();
  if (no_mark_needed && c == '{') {
    BeginCall();
    return StepCall(c);
  }
  held_.push_back(c);
  while (!begin_mark_.starts_with(held_)) {
    Plain(Kind::kText, held_.front());
    held_.erase(0, 1);
  }
  if (held_ != begin_mark_) return;
  BeginCall();
  raw_ = std::exchange(held_, {});
}

// A byte of text or reasoning. Blanks wait for what follows them.
void OutputParser::Plain(Kind kind, char c) {
  if (IsBlank(c)) {
    if (!drop_blanks_) blanks_.push_back(c);
    return;
  }
  drop_blanks_ = false;
  any_text_ |= kind == Kind::kText;
  Emit(kind, std::exchange(blanks_, {}));
  Emit(kind, {&c, 1});
}

void OutputParser::BeginCall() {
  scanner_ = {};
  named_ = bare_arguments_ = false;
  raw_.clear();
  place_ = format_.tools == ToolFormat::kMistral && place_ == Place::kText ? Place::kMistralKind : Place::kCall;
}

// As newer Mistral models write it: name[ARGS]{…}, maybe with [CALL_ID] and an id before [ARGS].
void OutputParser::StepMistralName(char c) {
  raw_.push_back(c);
  const std::string_view text = std::string_view(raw_).substr(begin_mark_.size());
  const std::string name(text.substr(0, text.find_first_of("[{")));
  const bool has_end = text.ends_with(kMistralArguments);
  if (text.size() > kMaxNameBytes || name.find_first_of("\" \\\n") != std::string::npos) return ReleaseRaw();
  if (!has_end && c != '{') return;
  if (name.empty()) return ReleaseRaw();
  bare_arguments_ = true;
  place_ = Place::kCall;
  const std::string object = "{\"name\": \"" + name + "\", \"arguments\":";
  for (const char each : object) scanner_.Append(each);
  NameCall();
  if (c == '{') StepCall(c);
}

void OutputParser::StepCall(char c) {
  if (!named_) raw_.push_back(c);
  CallScanner::State state = scanner_.Append(c);
  if (bare_arguments_ && state == CallScanner::State::kOpen && scanner_.behind_value()) state = scanner_.Append('}');
  if (!named_ && !scanner_.name().empty()) {
    const bool marked = raw_.starts_with(begin_mark_) || format_.tools != ToolFormat::kLlama3;
    if (!marked && std::find(tools_.begin(), tools_.end(), scanner_.name()) == tools_.end()) return ReleaseRaw();
    NameCall();
  }
  if (named_) Emit(Kind::kCallArguments, scanner_.TakeArguments());
  if (state == CallScanner::State::kOpen) return;
  const bool broken = state == CallScanner::State::kBroken;
  if (named_) return EndCall(broken);
  ReleaseRaw();
}

void OutputParser::NameCall() {
  named_ = true;
  raw_.clear();
  blanks_.clear();
  Emit(Kind::kCallName, scanner_.name());
}

void OutputParser::EndCall(bool broken) {
  ++calls_;
  drop_blanks_ = true;
  if (bare_arguments_) {
    place_ = Place::kText;
  } else {
    // Behind a broken call only a mark leads back to text.
    place_ = broken && end_mark_.empty() ? Place::kSkip : Place::kBetween;
  }
}

void OutputParser::ReleaseRaw() {
  Emit(Kind::kText, std::exchange(blanks_, {}));
  Emit(Kind::kText, std::exchange(raw_, {}));
  any_text_ = true;
  drop_blanks_ = false;
  place_ = Place::kText;
}

void OutputParser::StepBetween(char c) {
  if (!end_mark_.empty()) return StepToMark(c);
  if (IsBlank(c)) return;
  const bool array = format_.tools == ToolFormat::kMistral;
  if (array && c == ',') return BeginCall();
  if (array && c == ']') {
    place_ = Place::kText;
  } else if (!array && c == '{') {
    BeginCall();
    StepCall(c);
  } else if (array || c != ';') {
    place_ = Place::kText;
    StepText(c);
  }
}

// Whatever is between a call and its end mark, or the next call, is dropped.
void OutputParser::StepToMark(char c) {
  held_.push_back(c);
  while (!end_mark_.starts_with(held_) && !begin_mark_.starts_with(held_)) held_.erase(0, 1);
  if (held_ == end_mark_) {
    held_.clear();
    place_ = Place::kText;
  } else if (held_ == begin_mark_) {
    BeginCall();
    raw_ = std::exchange(held_, {});
  }
}

void OutputParser::Emit(Kind kind, std::string_view text) {
  if (text.empty()) return;
  const bool of_call = kind == Kind::kCallName || kind == Kind::kCallArguments;
  const int call = of_call ? calls_ : 0;
  if (out_->empty() || out_->back().kind != kind || out_->back().call != call) out_->push_back({.kind = kind, .call = call});
  out_->back().text.append(text);
}

}  // namespace berth::text
