#pragma once

#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"

namespace berth::cli {

// Where the models of the Hugging Face hub are on this machine.
struct HubOptions {
  std::string cache;  // its folder "hub"
  // Runs `hf download NAME` and returns the folder that it prints.
  absl::FunctionRef<absl::StatusOr<std::string>(const std::string& name)> download;
};

// What `model` names: "org/model" of the hub, in the cache or downloaded, when there is no such path, else the path itself. Of
// a snapshot that is one GGUF model the path is its (first) file. NOT_FOUND says what to run.
absl::StatusOr<std::string> ResolveModel(const std::string& model, const HubOptions& hub);

// A variable of the environment, or null.
using Environment = absl::FunctionRef<const char*(const char* name)>;

// The same with the folder that HF_HUB_CACHE, HF_HOME or HOME tell, and with the tool `hf` when it is installed.
absl::StatusOr<std::string> ResolveModel(const std::string& model, const Environment& environment);

}  // namespace berth::cli
