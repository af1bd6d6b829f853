#include "clients/cli/old_spellings.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "base/status.h"

namespace berth::cli {
namespace {

using Words = std::vector<std::string>;

struct RenamedFlag {
  absl::string_view old_name, name;
};
constexpr RenamedFlag kRenamed[] = {{"--server-name", "--host"},
                                    {"--server-port", "--port"},
                                    {"--instance-num", "--max-batch-size"},
                                    {"--max-concurrent-requests", "--max-streams"},
                                    {"--request-output-len", "--max-tokens"},
                                    // vLLM, SGLang
                                    {"--chunked-prefill-size", "--step-tokens"},
                                    {"--context-length", "--session-len"},
                                    {"--data-parallel-size", "--workers"},
                                    {"--dp-size", "--workers"},
                                    {"--max-model-len", "--session-len"},
                                    {"--max-num-batched-tokens", "--step-tokens"},
                                    {"--max-num-seqs", "--max-batch-size"},
                                    {"--max-queued-requests", "--max-waiting"},
                                    {"--max-running-requests", "--max-batch-size"},
                                    {"--no-enable-prefix-caching", "--no-prefix-cache"},
                                    {"--disable-radix-cache", "--no-prefix-cache"},
                                    {"--served-model-name", "--model-name"}};

constexpr absl::string_view kAny = "any value";
// Flags of which only some values are what Berth does: those go, others are refused. `values` are separated by spaces.
struct FixedFlag {
  absl::string_view name, values, lacking;
  bool takes_value = true;
};
constexpr FixedFlag kFixed[] = {
    {"--tp", "1", "tensor parallelism; --workers N serves a copy on each GPU"},
    {"--dp", "1", "data parallelism within a worker; --workers N serves a copy on each GPU"},
    {"--ep", "1", "expert parallelism"},
    {"--cp", "1", "context parallelism"},
    {"--nnodes", "1", "a worker over several hosts"},
    {"--quant-policy", "0", "a quantised KV cache"},
    {"--rope-scaling-factor", "0 0.0", "other RoPE scaling than the model's config.json has"},
    {"--model-format", "hf llama gguf", "reader of this format; pass a Hugging Face directory or a GGUF file"},
    {"--backend", "turbomind", "other engine than its own"},
    {"--cap", "chat", "other capability than chat; use /v1/completions for prompts without a template"},
    {"--adapters", "", "LoRA adapters"},
    {"--speculative-algorithm", "", "speculative decoding"},
    {"--meta-instruction", "", "system message of the server's own; callers send theirs"},
    {"--qos-config-path", "", "QoS groups; --api-keys-file gives each tenant its limits"},
    {"--num-tokens-per-iter", "", "flag of this name; --step-tokens N bounds a step"},
    {"--max-prefill-iters", "", "flag of this name; --step-tokens N bounds a step, and prompts are cut into steps"},
    {"--ssl", "", "certificates in the environment; --ssl-keyfile FILE and --ssl-certfile FILE name them", false},
    {"--proxy-url", "", "LMDeploy's proxy; gateways find workers by --workers, DNS or a file"},
    {"--stream-output", kAny, "", false},
    {"--trust-remote-code", kAny, "", false},
    {"--enable-prefix-caching", kAny, "", false},
    {"--communicator", kAny, ""},
    {"--async", kAny, ""},
    {"--node-rank", "0", "a worker over several hosts"},
    {"--dist-init-addr", "", "a worker over several hosts"},
    {"--distributed-executor-backend", "uni", "a worker of several processes"},
    {"--role", "Hybrid", "workers for prompts or answers alone"},
    {"--migration-backend", kAny, ""},
    {"--enable-microbatch", "", "flag of this name; prompts and answers share steps anyway", false},
    {"--enable-eplb", "", "expert parallelism", false},
    {"--enable-return-routed-experts", "", "answer that tells the experts", false},
    {"--engine", "turbomind", "another engine than Berth's own"},
    {"--eager-mode", kAny, "", false},
    {"--cudagraph-capture-batch-sizes", "", "choice of the batches that CUDA graphs are for"},
    {"--kernel-block-size", kAny, ""},
    {"--cache-block-seq-len", kAny, ""},
    {"--max-prefill-token-num", "", "flag of this name; --step-tokens N bounds a step, and prompts are cut into steps"},
    {"--prefix-cache-state-budget", "0", "models with recurrent states"},
    {"--prefix-cache-decode-state-interval", "0", "models with recurrent states"},
    {"--dllm-block-length", "", "diffusion models"},
    {"--dllm-unmasking-strategy", "", "diffusion models"},
    {"--dllm-denoising-steps", "", "diffusion models"},
    {"--dllm-confidence-threshold", "", "diffusion models"},
    {"--speculative-draft-model", "", "speculative decoding"},
    {"--speculative-num-draft-tokens", "", "speculative decoding"},
    {"--logprobs-mode", "", "choice of what log probabilities are of"},
    {"--language-model-only", kAny, "", false},
    {"--vision-max-batch-size", kAny, ""},
    {"--allowed-media-domains", "", "images or other media"},
    {"--revision", "main", "choice of a revision; fetch it with the hf tool and pass its directory"},
    {"--download-dir", "", "flag of this name; HF_HOME says where downloads go"},
    {"--hf-overrides", "", "overrides of config.json; change the file"},
    {"--generation-config", "auto",
     "choice of this file; the model's generation_config.json counts, callers' parameters before it"},
    {"--reasoning-parser", "", "choice of a parser; the chat template tells how a model marks its reasoning"},
    {"--disable-fastapi-docs", kAny, "", false},
    {"--max-log-len", kAny, ""},
    {"--disable-metrics", "", "switch for its metrics; they have a port of their own, --metrics-port", false},
    {"--allow-terminate-by-client", "", "endpoint that ends the server; send it SIGTERM", false},
    {"--enable-abort-handling", "", "endpoint that aborts requests; callers drop the connection", false},
    {"--allow-credentials", "", "cookies; callers from pages send their key in a header", false},
    {"--allow-methods", "*", "choice of the methods that pages may use"},
    {"--allow-headers", "*", "choice of the headers that pages may send"},
    {"--share", "", "public address for its web page", false},
    {"--tokenizer-path", "", "tokenizer from elsewhere; put it into the model's directory"},
    {"--quant-path", "", "quantised weights of this format; pass a quantised GGUF file"},
    {"--group-size", "0", "AWQ weights; pass a quantised GGUF file or an unquantised directory"},
    // vLLM, SGLang
    {"--tensor-parallel-size", "1", "tensor parallelism; --workers N serves a copy on each GPU"},
    {"--tp-size", "1", "tensor parallelism; --workers N serves a copy on each GPU"},
    {"--pipeline-parallel-size", "1", "pipeline parallelism"},
    {"--pp-size", "1", "pipeline parallelism"},
    {"--enable-expert-parallel", "", "expert parallelism", false},
    {"--gpu-memory-utilization", "", "flag of this name; --cache-max-entry-count R is the share of the free memory for KV"},
    {"--mem-fraction-static", "", "flag of this name; --cache-max-entry-count R is the share of the free memory for KV"},
    {"--kv-cache-dtype", "auto", "quantised KV cache"},
    {"--quantization", "", "quantisation at loading; pass a quantised GGUF file"},
    {"--cpu-offload-gb", "0", "weights outside a GPU"},
    {"--enable-lora", "", "LoRA adapters", false},
    {"--lora-modules", "", "LoRA adapters"},
    {"--speculative-config", "", "speculative decoding"},
    {"--tokenizer", "", "tokenizer from elsewhere; put it into the model's directory"},
    {"--block-size", kAny, ""},
    {"--swap-space", kAny, ""},
    {"--enforce-eager", kAny, "", false},
    {"--enable-chunked-prefill", kAny, "", false},
    {"--enable-auto-tool-choice", kAny, "", false},
    {"--disable-log-requests", kAny, "", false},
    {"--disable-log-stats", kAny, "", false},
    {"--enable-metrics", kAny, "", false},
};

struct RenamedValue {
  absl::string_view name, old_value, value;
};
constexpr RenamedValue kRenamedValues[] = {
    {"--dtype", "float16", "f16"},
    {"--dtype", "bfloat16", "bf16"},
    {"--dtype", "half", "f16"},
    {"--log-level", "DEBUG", "debug"},
    {"--log-level", "INFO", "info"},
    {"--log-level", "WARN", "warn"},
    {"--log-level", "WARNING", "warn"},
    {"--log-level", "ERROR", "error"},
    {"--log-level", "CRITICAL", "error"},
    {"--log-level", "FATAL", "error"},
    {"--log-level", "NOTSET", "debug"},
    {"--tool-call-parser", "internlm", "internlm2"},
    {"--tool-call-parser", "qwen", "hermes"},
    {"--tool-call-parser", "qwen2d5", "hermes"},
    {"--tool-call-parser", "qwen3", "hermes"},
    {"--tool-call-parser", "llama3_json", "llama3"},
};

absl::Status Lacks(absl::string_view what, absl::string_view why) {
  return absl::UnimplementedError(absl::StrCat(what, ": Berth has no ", why));
}

// "--a_b=c_d" → {"--a-b", "c_d"}.
std::pair<std::string, std::optional<std::string>> SplitFlag(const std::string& word) {
  const size_t equals = word.find('=');
  std::string name = absl::StrReplaceAll(word.substr(0, equals), {{"_", "-"}});
  if (equals == std::string::npos) return {std::move(name), std::nullopt};
  return {std::move(name), word.substr(equals + 1)};
}

std::string JoinFlag(const std::string& name, const std::optional<std::string>& value) {
  return value.has_value() ? absl::StrCat(name, "=", *value) : name;
}

template <typename Table>
auto Find(const Table& table, absl::string_view name) {
  return std::find_if(std::begin(table), std::end(table), [&](const auto& entry) { return entry.name == name; });
}

// What becomes of one flag of a command that others have too; takes its value from `next` if it needs one.
absl::Status TranslateFlag(const std::string& command, const std::string& word, Words::const_iterator& next,
                           Words::const_iterator end, Words& out) {
  auto [name, value] = SplitFlag(word);
  const auto take_value = [&, &value = value]() -> std::string {
    if (!value.has_value() && next != end) value = *next++;
    return value.value_or("");
  };
  if (command == "chat" && name == "--meta-instruction") name = "--system";
  if (command == "serve" && name == "--api-key") name = "--api-keys";
  if (command == "convert" && name == "--chat-template") return Lacks(name, "flag of this name here; berth serve takes it");
  for (const RenamedFlag& flag : kRenamed) {
    if (name == flag.old_name) name = std::string(flag.name);
  }
  if (Find(kRenamedValues, name) != std::end(kRenamedValues)) take_value();
  for (const RenamedValue& flag : kRenamedValues) {
    if (name == flag.name && value == flag.old_value) value = std::string(flag.value);
  }
  const auto* fixed = Find(kFixed, name);
  if (fixed == std::end(kFixed) || (command == "convert" && name == "--tp")) {
    out.push_back(JoinFlag(name, value));
    return absl::OkStatus();
  }
  if (!fixed->takes_value) return fixed->values == kAny ? absl::OkStatus() : Lacks(name, fixed->lacking);
  const std::string given = take_value();
  if (fixed->values == kAny || absl::StrContains(absl::StrCat(" ", fixed->values, " "), absl::StrCat(" ", given, " "))) {
    return absl::OkStatus();
  }
  return Lacks(absl::StrCat(name, " ", given), fixed->lacking);
}

bool IsFourBitModel(const std::string& word) {
  return absl::EndsWith(word, "-4bit") && absl::StrContains(word, '/') && !std::filesystem::exists(word);
}

// The commands that Berth spells otherwise, and those it lacks. `arguments` begins with the command.
absl::Status TranslateCommand(Words& arguments) {
  const std::string command = arguments[0], sub = arguments.size() > 1 ? arguments[1] : "";
  const auto replace = [&arguments](size_t count, Words words) {
    arguments.erase(arguments.begin(), arguments.begin() + static_cast<ptrdiff_t>(count));
    arguments.insert(arguments.begin(), words.begin(), words.end());
  };
  if (command == "convert" && arguments.size() > 2 && !absl::StartsWith(sub, "-") && !absl::StartsWith(arguments[2], "-")) {
    replace(2, {"convert"});  // it began with the name of a chat template
  }
  if (command == "check_env") replace(1, {"check-env"});
  if (command == "chat" && sub == "turbomind") replace(2, {"chat"});
  if (command == "serve" && sub == "api_server") replace(2, {"serve"});
  if (command == "serve" && sub == "gradio") {
    const bool port_given = std::any_of(arguments.begin(), arguments.end(), [](const std::string& word) {
      const std::string name = SplitFlag(word).first;
      return name == "--server-port" || name == "--port";
    });
    replace(2, port_given ? Words{"serve"} : Words{"serve", "--port", "6006"});
  }
  if (command == "serve" && sub == "api_client") replace(2, {"api_client"});
  if (command == "chat" && sub == "torch") return Lacks("chat torch", "PyTorch engine; `berth chat MODEL` uses its own");
  if (command == "serve" && sub == "triton_client")
    return Lacks("serve triton_client", "Triton server; `berth chat` speaks gRPC");
  if (command == "serve" && sub == "proxy") {
    return Lacks("serve proxy", "proxy of this kind; berth-gateway is the router, see docs/operations.md");
  }
  if (command == "lite") {
    return Lacks(absl::StrCat("lite ", sub), "calibration and weight quantisation; pass a quantised GGUF file");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<std::string>> Modernise(std::vector<std::string> arguments) {
  if (arguments.empty()) return arguments;
  BERTH_RETURN_IF_ERROR(TranslateCommand(arguments));
  constexpr absl::string_view kShared[] = {"serve", "chat", "api_client", "convert", "list"};
  const bool own = std::find(std::begin(kShared), std::end(kShared), arguments[0]) == std::end(kShared);
  Words out = {arguments[0]};
  for (auto next = arguments.cbegin() + 1; next != arguments.cend();) {
    const std::string& word = *next++;
    if (absl::StartsWith(word, "--") && own) {
      const auto [name, value] = SplitFlag(word);
      out.push_back(JoinFlag(name, value));
    } else if (absl::StartsWith(word, "--")) {
      BERTH_RETURN_IF_ERROR(TranslateFlag(arguments[0], word, next, arguments.cend(), out));
    } else if (!own && IsFourBitModel(word)) {
      return Lacks(word, "AWQ weights; pass a quantised GGUF file or an unquantised directory");
    } else {
      out.push_back(word);
    }
  }
  return out;
}

absl::StatusOr<std::string> ServerAddress(const std::string& server) {
  absl::string_view rest = server;
  const bool url = absl::ConsumePrefix(&rest, "http://") || absl::ConsumePrefix(&rest, "https://");
  absl::ConsumeSuffix(&rest, "/");
  const size_t colon = rest.rfind(':');
  int port = 0;
  if (colon == 0 || colon == absl::string_view::npos || !absl::SimpleAtoi(rest.substr(colon + 1), &port) || port < 1 ||
      port > 65534) {
    return absl::InvalidArgumentError(absl::StrCat("\"", server, "\" is neither host:port nor http://host:port"));
  }
  return absl::StrCat(rest.substr(0, colon), ":", url ? port + 1 : port);
}

}  // namespace berth::cli
