#pragma once

#include <ostream>
#include <sstream>

namespace berth::base {

// Collects the message of a failed check and ends the process. Only for our own bugs: what input, files, peers or devices can
// cause is an absl::Status.
class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* condition);
  [[noreturn]] ~CheckFailure();
  std::ostream& stream() { return message_; }

 private:
  std::ostringstream message_;
};

// Makes the two branches of BERTH_CHECK's conditional void.
struct CheckVoid {
  void operator&(std::ostream&) {}
};

}  // namespace berth::base

// BERTH_CHECK(n > 0) << "n is " << n;
#define BERTH_CHECK(condition) \
  (condition) ? (void)0 : ::berth::base::CheckVoid() & ::berth::base::CheckFailure(__FILE__, __LINE__, #condition).stream()
