#pragma once

#include <cstdint>
#include <string>

namespace berth::cli {

// "[=====     …]  10 %"
std::string BarText(int percent);

// At standard error: a bar on a terminal, else a line for every tenth.
class ProgressBar {
 public:
  ProgressBar();
  // Of bytes.
  void Show(uint64_t done, uint64_t total);

 private:
  const bool terminal_;
  int shown_ = -1;
};

}  // namespace berth::cli
