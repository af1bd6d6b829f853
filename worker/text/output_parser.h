#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "worker/text/call_scanner.h"
#include "worker/text/output_format.h"

namespace berth::text {

// A piece of an answer. Pieces of one kind and call that follow each other belong together.
struct OutputPiece {
  enum class Kind { kText, kReasoning, kCallName, kCallArguments };
  Kind kind = Kind::kText;
  int call = 0;  // which of the answer's calls
  std::string text;
};

// Tells text, reasoning and tool calls in a model's answer, which comes in pieces of any size: where it was cut changes
// nothing. What begins like a call and is none is text. Blanks around calls and reasoning are dropped. Thread: one at a time.
class OutputParser {
 public:
  // `opens_reasoning`: the prompt ends inside reasoning. `tools`: names; an answer that is an object without any mark is a call
  // only if it names one of them.
  OutputParser(const OutputFormat& format, bool opens_reasoning, std::vector<std::string> tools);

  // Appends what became known.
  void Append(std::string_view text, std::vector<OutputPiece>& pieces);
  // No text follows.
  void Finish(std::vector<OutputPiece>& pieces);

 private:
  enum class Place { kStart, kReasoning, kText, kMistralKind, kMistralName, kCall, kBetween, kSkip };
  using Kind = OutputPiece::Kind;

  void Step(char c);
  void StepStart(char c);
  void StepReasoning(char c);
  void StepText(char c);
  void StepMistralName(char c);
  void StepCall(char c);
  void StepBetween(char c);
  void StepToMark(char c);

  void Plain(Kind kind, char c);
  void BeginCall();
  void NameCall();
  void EndCall(bool broken);
  void ReleaseRaw();
  void Emit(Kind kind, std::string_view text);

  const OutputFormat format_;
  const std::vector<std::string> tools_;
  const std::string_view begin_mark_, end_mark_;  // of a call
  Place place_;
  std::string held_;          // may become a mark
  std::string blanks_;        // sent with what follows them
  bool drop_blanks_ = false;  // those at hand are around a call or reasoning
  bool any_text_ = false;
  std::string raw_;  // of a call that has no name yet: text, should it be none
  CallScanner scanner_;
  bool named_ = false;
  bool bare_arguments_ = false;  // the call is name and arguments, without an object around them
  int calls_ = 0;                // before the one at hand
  std::vector<OutputPiece>* out_ = nullptr;
};

}  // namespace berth::text
