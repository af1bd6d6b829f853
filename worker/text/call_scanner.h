#pragma once

#include <string>

namespace berth::text {

// Reads one call as models write it, {"name": …, "arguments": …} or with "parameters", byte by byte. The arguments pass through
// as they are written, as soon as the name is known; arguments inside a string are its text. Thread: one at a time.
class CallScanner {
 public:
  enum class State { kOpen, kDone, kBroken };

  // Takes the next byte; not after kDone or kBroken. kBroken: with this byte it is no call.
  State Append(char c);

  // Not empty once the name was read.
  const std::string& name() const { return name_; }
  // Arguments that became known since the last time.
  std::string TakeArguments();
  // A value has just ended.
  bool behind_value() const { return place_ == Place::kAfterValue; }

 private:
  enum class Place { kBegin, kKey, kInKey, kColon, kValue, kInValue, kAfterValue };

  State BeginValue(char c);
  State AppendToValue(char c);
  bool ClosesValue(char c);
  State EndValue();
  State AfterValue(char c);
  bool is_arguments() const { return key_ == "\"arguments\"" || key_ == "\"parameters\""; }

  Place place_ = Place::kBegin;
  std::string key_, value_;  // as written, with quotes; the value only when it does not stream
  bool in_string_ = false, escaped_ = false;
  int depth_ = 0;
  std::string name_, arguments_;
  bool streams_ = false;  // the value at hand is the arguments, and goes to arguments_
  bool has_arguments_ = false;
};

}  // namespace berth::text
