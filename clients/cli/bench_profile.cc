#include "clients/cli/bench_profile.h"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <utility>

#include "absl/strings/str_format.h"

namespace berth::cli {
namespace {

// "void ns::(anonymous namespace)::Kernel<float>(int)" → "Kernel<float>".
std::string ShortName(const std::string& symbol) {
  int status = 0;
  char* const demangled = abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status);
  std::string name = status == 0 ? demangled : symbol;
  std::free(demangled);
  for (const std::string noise : {"(anonymous namespace)::", "berth::kernels::cuda::", "berth::kernels::", "void "}) {
    for (size_t at = name.find(noise); at != std::string::npos; at = name.find(noise)) name.erase(at, noise.size());
  }
  int depth = 0;
  for (size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '(' && depth == 0) return name.substr(0, i);
    if (name[i] == '<') ++depth;
    if (name[i] == '>') --depth;
  }
  return name;
}

}  // namespace

void KernelTimes::Add(const std::string& symbol, int64_t begin, int64_t end) {
  base::MutexLock lock(mutex_);
  runs_.push_back({.begin = begin, .end = end, .symbol = &*symbols_.insert(symbol).first});
}

std::vector<KernelTime> KernelTimes::Take() {
  base::MutexLock lock(mutex_);
  std::vector<Run> runs = std::exchange(runs_, {});
  std::sort(runs.begin(), runs.end(), [](const Run& a, const Run& b) { return a.end < b.end; });
  std::map<const std::string*, KernelTime> by_symbol;
  int64_t last = 0;
  for (const Run& run : runs) {
    KernelTime& time = by_symbol[run.symbol];
    ++time.calls;
    time.seconds += 1e-9 * static_cast<double>(run.end - std::max(run.begin, last));
    last = run.end;
  }
  std::vector<KernelTime> kernels;
  for (const auto& [symbol, time] : by_symbol) {
    kernels.push_back({.name = ShortName(*symbol), .calls = time.calls, .seconds = time.seconds});
  }
  std::sort(kernels.begin(), kernels.end(), [](const KernelTime& a, const KernelTime& b) { return a.seconds > b.seconds; });
  return kernels;
}

std::string FormatKernels(const std::vector<KernelTime>& kernels, size_t count) {
  double all = 0;
  for (const KernelTime& kernel : kernels) all += kernel.seconds;
  std::string text;
  for (size_t i = 0; i < std::min(count, kernels.size()); ++i) {
    const KernelTime& kernel = kernels[i];
    absl::StrAppendFormat(&text, "  %5.1f %%  %7d x %9.2f us  %s\n", 100 * kernel.seconds / all, kernel.calls,
                          1e6 * kernel.seconds / static_cast<double>(kernel.calls), kernel.name);
  }
  return text;
}

}  // namespace berth::cli
