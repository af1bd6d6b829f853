#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/rpc/api_keys.h"
#include "proto/rpc/channel.h"
#include "worker/service/link_options.h"

namespace berth::worker {

// The simulated engine, for tests without a model.
struct SimOptions {
  bool enabled = false;
  double step_ms = 10;
  int slots = 64;
  int kv_blocks = 4096;
  int max_length = 8192;
  double prefill_tokens_per_second = 0;
  double stop_probability = 0;
  int64_t stall_after_tokens = -1;
  int64_t fail_after_tokens = -1;
  int64_t exit_after_tokens = -1;
  int32_t crash_on_token = -1;
  double slow_factor = 1;
  int64_t freeze_in_commit = 0;  // of the SQLite journal, the how many-th; 0: never
};

// What --device names.
struct DeviceChoice {
  bool cuda = false;  // a GPU or an error
  bool cpu = false;   // neither: a GPU that can be used, else the CPU
  int index = 0;      // of the GPU
};
// cpu, auto or cuda, the last two with :K for another GPU than the first. INVALID_ARGUMENT names the text.
absl::StatusOr<DeviceChoice> ParseDevice(const std::string& text);

struct WorkerOptions {
  std::string model;                 // path of a GGUF file, a Hugging Face directory or a workspace
  std::string load_format = "auto";  // or random: only the model's config.json is read
  uint64_t seed = 0;                 // of random weights
  std::string model_name;            // empty: the file's or directory's
  std::string chat_template;         // the name of a built-in one, or a file; empty: the checkpoint's, else the family's
  SimOptions sim;
  service::LinkOptions link;
  std::string worker_id = "worker-0";
  std::string host = "127.0.0.1";
  int port = 0, admin_port = 0, metrics_port = 0;
  rpc::TlsOptions tls;
  bool serve_callers = false;
  rpc::ApiKeyOptions api_keys;  // of callers

  std::string device = "auto";            // as for ParseDevice
  std::string dtype = "auto";             // of the GPU's weights, activations and KV: what suits the model, or bf16, f16
  std::string tool_call_parser = "auto";  // or none, hermes, llama3, internlm2, mistral
  std::string kernel_set = "auto";        // or generic: only kernels that run on every GPU
  bool batch_invariant = false;           // a GPU's logits do not depend on what else is computed; the CPU's never do
  int session_len = 0;
  int max_batch_size = 0;
  int step_tokens = 0;
  int depth = 0;  // 0: 2 on a GPU, else 1
  bool prefix_cache = true;
  int cpu_threads = 0;               // 0: the machine's cores
  int64_t kv_bytes = 0;              // at most; 0: by cache_max_entry_count alone
  double cache_max_entry_count = 0;  // share of the free memory for KV; 0: 0.8 of a GPU's, 512 MiB of the host's
  int tokenizer_threads = 2;

  std::string journal = "memory";  // or sqlite:PATH, or a Redis URL
  rpc::TlsOptions journal_tls;     // of a rediss:// one
  double session_ttl_hours = 24;
  int max_sessions = 100000;

  std::string log_level = "info";
  double shutdown_grace_seconds = 30;
  bool parent_watch = false;
  std::string notify_socket;  // of a supervisor that wants to hear that the process is well; empty: none

  // INVALID_ARGUMENT names the flag and the value.
  absl::Status Validate() const;
};

// Flags, then the file of --config. Returns the exit code when the process is to end: help was asked for, or a flag is wrong.
int ParseOptions(int argc, char** argv, WorkerOptions* options, bool* done);

}  // namespace berth::worker
