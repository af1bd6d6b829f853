#pragma once

#include <string>
#include <utility>
#include <vector>

namespace berth::cli {

// What a report of a fault should say about this machine: (name, value) of the system, processor, memory, GPUs and driver,
// Berth and the libraries that it is built with. `version` is Berth's; what cannot be found out is "none".
std::vector<std::pair<std::string, std::string>> DescribeEnvironment(const std::string& version);

}  // namespace berth::cli
