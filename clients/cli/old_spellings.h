#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace berth::cli {

// The command line in Berth's own spelling, from one in it or in LMDeploy's: underscored names (`check_env`, `--model_name`),
// commands (`serve api_server`, `serve gradio`, `serve api_client`, `chat turbomind`) and flags (`--server-port`,
// `--instance_num`, `--meta-instruction`). Flags that ask for what is so anyway (`--tp 1`, `--backend turbomind`) go.
// UNIMPLEMENTED names a command or value that Berth does not have: `lite`, `serve triton_client`, `--tp 2`, `--quant-policy 8`,
// `org/name-4bit`. Every flag of LMDeploy's is taken, translated or named, and those that servers are mostly started with of
// vLLM's and SGLang's (`--max-model-len`, `--mem-fraction-static`). Of inspect, bench and admin only the underscores change.
// `arguments` are those after the program's name.
absl::StatusOr<std::vector<std::string>> Modernise(std::vector<std::string> arguments);

// host:port of a server's gRPC API, from that or from a URL of its HTTP API: the port above that one's, as `berth serve` has
// them by default. INVALID_ARGUMENT for neither.
absl::StatusOr<std::string> ServerAddress(const std::string& server);

}  // namespace berth::cli
