#include "worker/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "worker/session/redis_options.h"

namespace berth::worker {
namespace {

bool IsRedis(const std::string& journal) {
  return absl::StartsWith(journal, "redis://") || absl::StartsWith(journal, "rediss://");
}

// The value of --journal may hold a password.
absl::Status CheckJournal(const std::string& journal, const rpc::TlsOptions& tls) {
  if (IsRedis(journal)) {
    const absl::Status status = session::ParseRedisUrl(journal).status();
    if (!status.ok()) return absl::InvalidArgumentError(absl::StrCat("--journal ", status.message()));
    if (tls.cert_file.empty() == tls.key_file.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError("--journal-cert and --journal-key want each other");
  }
  if (journal == "memory" || (absl::StartsWith(journal, "sqlite:") && journal.size() > 7)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--journal is ", journal.substr(0, journal.find(':')),
                                                 ", want memory, sqlite:PATH, redis://… or rediss://…"));
}

bool IsLoopback(const std::string& host) { return host == "localhost" || host == "::1" || absl::StartsWith(host, "127."); }

struct Choice {
  const char* flag;
  std::string value;
  std::vector<std::string> choices;
};

void AddSimFlags(CLI::App& app, WorkerOptions& options) {
  SimOptions& sim = options.sim;
  app.add_flag("--sim", sim.enabled, "Serve the simulated test engine instead of a model");
  app.add_option("--sim-step-ms", sim.step_ms, "Time of a simulated step");
  app.add_option("--sim-slots", sim.slots, "Sequences active at once");
  app.add_option("--sim-kv-blocks", sim.kv_blocks, "Simulated KV blocks");
  app.add_option("--sim-max-length", sim.max_length, "Tokens of one sequence");
  app.add_option("--sim-prefill-rate", sim.prefill_tokens_per_second, "Prompt tokens per second; 0: no extra time");
  app.add_option("--sim-stop-probability", sim.stop_probability, "Of an end-of-sequence token at each position");
  app.add_option("--sim-stall-after-tokens", sim.stall_after_tokens, "Fault: no step ends after so many tokens");
  app.add_option("--sim-fail-after-tokens", sim.fail_after_tokens, "Fault: the device fails after so many tokens");
  app.add_option("--sim-exit-after-tokens", sim.exit_after_tokens, "Fault: the process exits after so many tokens");
  app.add_option("--sim-crash-on-token", sim.crash_on_token, "Fault: the process aborts at this token id");
  app.add_option("--sim-slow-factor", sim.slow_factor, "Fault: every step takes so many times as long");
  app.add_option("--sim-freeze-in-commit", sim.freeze_in_commit, "Fault: the process stops inside the so many-th commit");
  app.add_option("--sim-drop-write", options.link.drop_write, "Fault: every so many-th frame with tokens is lost; at least 2");
}

}  // namespace

absl::StatusOr<DeviceChoice> ParseDevice(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, absl::MaxSplits(':', 1));
  DeviceChoice choice{.cuda = parts[0] == "cuda", .cpu = parts[0] == "cpu"};
  const bool known = choice.cuda || choice.cpu || parts[0] == "auto";
  const bool numbered = parts.size() == 1 || (!choice.cpu && absl::SimpleAtoi(parts[1], &choice.index) && choice.index >= 0);
  if (known && numbered) return choice;
  return absl::InvalidArgumentError(
      absl::StrCat("--device is ", text, ", want cpu, cuda or auto, or cuda:K or auto:K with the number of a GPU"));
}

absl::Status WorkerOptions::Validate() const {
  const auto refuse = [](const char* flag, auto value, const char* want) {
    return absl::InvalidArgumentError(absl::StrCat(flag, " is ", value, ", want ", want));
  };
  if (model.empty() != sim.enabled) return absl::InvalidArgumentError("want one of --model PATH and --sim");
  if (worker_id.empty() || absl::StrContains(worker_id, '/')) return refuse("--worker-id", worker_id, "a name without '/'");
  for (const auto& [flag, value] :
       {std::pair("--port", port), {"--admin-port", admin_port}, {"--metrics-port", metrics_port}}) {
    if (value < 0 || value > 65535) return refuse(flag, value, "0 … 65535");
  }
  if (!IsLoopback(host) && (tls.cert_file.empty() || tls.ca_file.empty())) {
    return absl::InvalidArgumentError(
        absl::StrCat("--host is ", host, ": beyond loopback a worker needs --tls-cert, --tls-key and --tls-ca"));
  }
  if (api_keys.enabled() && !serve_callers) {
    return absl::InvalidArgumentError("--api-keys and --api-keys-file are for direct callers: want --serve-callers too");
  }
  if (session_len < 0) return refuse("--session-len", session_len, "0 or more");
  if (max_batch_size < 0) return refuse("--max-batch-size", max_batch_size, "0 or more");
  if (step_tokens < 0 || step_tokens == 1) return refuse("--step-tokens", step_tokens, "0, or 2 or more");
  if (depth < 0) return refuse("--depth", depth, "0 or more");
  for (const auto& [flag, value, choices] :
       {Choice{"--dtype", dtype, {"auto", "bf16", "f16"}}, Choice{"--kernel-set", kernel_set, {"auto", "generic"}},
        Choice{"--tool-call-parser", tool_call_parser, {"auto", "none", "hermes", "llama3", "internlm2", "mistral"}},
        Choice{"--load-format", load_format, {"auto", "random"}}}) {
    if (std::find(choices.begin(), choices.end(), value) == choices.end()) {
      return refuse(flag, value, absl::StrJoin(choices, " or ").c_str());
    }
  }
  if (const absl::Status status = ParseDevice(device).status(); !status.ok()) return status;
  if (cpu_threads < 0) return refuse("--cpu-threads", cpu_threads, "0 or more");
  if (kv_bytes < 0) return refuse("--kv-bytes", kv_bytes, "0 or more");
  if (!(cache_max_entry_count >= 0 && cache_max_entry_count < 1)) {
    return refuse("--cache-max-entry-count", cache_max_entry_count, "at least 0 and less than 1");
  }
  if (tokenizer_threads < 1) return refuse("--tokenizer-threads", tokenizer_threads, "1 or more");
  if (const absl::Status status = CheckJournal(journal, journal_tls); !status.ok()) return status;
  if (!(session_ttl_hours > 0)) return refuse("--session-ttl", session_ttl_hours, "more than 0");
  if (max_sessions < 1) return refuse("--max-sessions", max_sessions, "1 or more");
  if (!(shutdown_grace_seconds >= 0)) return refuse("--shutdown-grace", shutdown_grace_seconds, "0 or more");
  if (sim.enabled && (sim.slots < 1 || sim.kv_blocks < 1 || sim.max_length < 2 || !(sim.step_ms >= 0))) {
    return absl::InvalidArgumentError("--sim-slots, --sim-kv-blocks and --sim-max-length want at least 1, 1 and 2");
  }
  if (link.drop_write < 0 || link.drop_write == 1) return refuse("--sim-drop-write", link.drop_write, "0, or 2 or more");
  if (sim.freeze_in_commit != 0 && (sim.freeze_in_commit < 0 || journal == "memory")) {
    return refuse("--sim-freeze-in-commit", sim.freeze_in_commit, "0, or 1 or more and a journal in SQLite or Redis");
  }
  return absl::OkStatus();
}

int ParseOptions(int argc, char** argv, WorkerOptions* options, bool* done) {
  CLI::App app("Berth worker: serves one model shard to gateways over gRPC");
  app.set_config("--config", "", "TOML or INI file of flags");
  app.add_option("--model", options->model, "GGUF file, Hugging Face directory or workspace");
  app.add_option("--load-format", options->load_format, "auto, or random: weights of no checkpoint, from config.json alone");
  app.add_option("--seed", options->seed, "Seed of random weights");
  app.add_option("--device", options->device,
                 "cpu; cuda or cuda:K: GPU K; auto or auto:K: that GPU if it can be used, else the CPU");
  app.add_option(
      "--dtype", options->dtype,
      "Of the GPU's weights, activations and KV: bf16, f16, or auto: f16 for quantised or f16 GGUF files, else bf16");
  app.add_option("--kernel-set", options->kernel_set, "auto, or generic: only kernels that run on every GPU");
  app.add_flag("--batch-invariant", options->batch_invariant,
               "On a GPU: equal logits to the bit whatever else is computed beside; slower");
  app.add_option("--tool-call-parser", options->tool_call_parser,
                 "Format of tool calls: auto (what the chat template shows), none, hermes, llama3, internlm2 or mistral");
  app.add_option("--chat-template", options->chat_template,
                 "Name of a built-in chat template, or a file (Jinja); default: the checkpoint's own, else its family's");
  app.add_option("--model-name", options->model_name, "Name to serve it under");
  app.add_option("--worker-id", options->worker_id, "Stable id under which gateways discover this worker");
  app.add_option("--host", options->host, "Address to listen on");
  app.add_option("--port", options->port, "Data port; 0: any");
  app.add_option("--admin-port", options->admin_port, "Admin port; 0: any");
  app.add_option("--metrics-port", options->metrics_port, "Port of /live, /ready and /metrics; 0: any");
  app.add_option("--tls-cert,--ssl-certfile", options->tls.cert_file, "Certificate (PEM)");
  app.add_option("--tls-key,--ssl-keyfile", options->tls.key_file, "Its key (PEM)");
  app.add_option("--tls-ca,--ssl-ca-certs", options->tls.ca_file, "CA of the gateways' certificates (PEM)");
  app.add_flag("--serve-callers", options->serve_callers, "Serve generations to direct callers too");
  app.add_option("--api-keys", options->api_keys.keys, "Keys that direct callers may use; default: none is asked for");
  app.add_option("--api-keys-file", options->api_keys.file, "File of keys and tenants (docs/security.md)");
  app.add_option("--session-len", options->session_len, "Tokens of one sequence; 0: the model's context");
  app.add_option("--max-batch-size", options->max_batch_size, "Sequences computed at once; 0: 256 on a GPU, else 16");
  app.add_option("--step-tokens", options->step_tokens, "Token budget of a step; 0: 8192 on a GPU, else measured at start");
  app.add_option("--depth", options->depth, "Steps in flight; 0: 2 on a GPU, else 1");
  app.add_flag("--no-prefix-cache{false}", options->prefix_cache, "Never reuse cached KV blocks");
  app.add_option("--cpu-threads", options->cpu_threads, "Threads of the kernels; 0: all cores");
  app.add_option("--kv-bytes", options->kv_bytes, "At most so much memory for KV; 0: by --cache-max-entry-count");
  app.add_option("--cache-max-entry-count", options->cache_max_entry_count,
                 "Share of the free memory for KV; 0: 0.8 of a GPU's, 512 MiB of the host's");
  app.add_option("--tokenizer-threads", options->tokenizer_threads, "Threads that render and encode prompts");
  app.add_option("--journal", options->journal,
                 "Where sessions are kept: memory, sqlite:PATH, redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], rediss://…")
      ->envname("BERTH_JOURNAL");
  app.add_option("--journal-ca", options->journal_tls.ca_file, "CA of a rediss:// journal (PEM); default: the system's");
  app.add_option("--journal-cert", options->journal_tls.cert_file, "Our certificate for it (PEM)");
  app.add_option("--journal-key", options->journal_tls.key_file, "Its key (PEM)");
  app.add_option("--session-ttl", options->session_ttl_hours, "Hours until an unused session expires");
  app.add_option("--max-sessions", options->max_sessions, "Sessions open at once");
  app.add_option("--log-level", options->log_level, "debug, info, warn or error");
  app.add_option("--shutdown-grace", options->shutdown_grace_seconds,
                 "Seconds that running requests get after a drain or SIGTERM; then others go on with them");
  app.add_flag("--parent-watch", options->parent_watch, "End when the parent process dies");
  AddSimFlags(app, *options);
  *done = false;
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    *done = true;
    return app.exit(error) == 0 ? 0 : 1;
  }
  return 0;
}

}  // namespace berth::worker
