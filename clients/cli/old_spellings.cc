#include "clients/cli/old_spellings.h"

#include <algorithm>
#include <filesystem>
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
                                    {"--request-output-len", "--max-tokens"}};

// Flags of which only some values are what Berth does: those go, others are refused. `values` are separated by spaces; "*":
// any.
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
    {"--stream-output", "*", "", false},
    {"--trust-remote-code", "*", "", false},
    {"--enable-prefix-caching", "*", "", false},
    {"--communicator", "*", ""},
    {"--async", "*", ""},
};

struct RenamedValue {
  absl::string_view name, old_value, value;
};
constexpr RenamedValue kRenamedValues[] = {
    {"--dtype", "float16", "f16"},
    {"--dtype", "bfloat16", "bf16"},
    {"--log-level", "DEBUG", "debug"},
    {"--log-level", "INFO", "info"},
    {"--log-level", "WARN", "warn"},
    {"--log-level", "WARNING", "warn"},
    {"--log-level", "ERROR", "error"},
    {"--tool-call-parser", "internlm", "internlm2"},
    {"--tool-call-parser", "qwen", "hermes"},
    {"--tool-call-parser", "qwen2d5", "hermes"},
    {"--tool-call-parser", "qwen3", "hermes"},
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

// What becomes of one flag of `serve` or `chat`; takes its value from `next` if it needs one.
absl::Status TranslateFlag(const std::string& command, const std::string& word, Words::const_iterator& next,
                           Words::const_iterator end, Words& out) {
  auto [name, value] = SplitFlag(word);
  const auto take_value = [&, &value = value]() -> std::string {
    if (!value.has_value() && next != end) value = *next++;
    return value.value_or("");
  };
  if (command == "chat" && name == "--meta-instruction") name = "--system";
  for (const RenamedFlag& flag : kRenamed) {
    if (name == flag.old_name) name = std::string(flag.name);
  }
  if (Find(kRenamedValues, name) != std::end(kRenamedValues)) take_value();
  for (const RenamedValue& flag : kRenamedValues) {
    if (name == flag.name && value == flag.old_value) value = std::string(flag.value);
  }
  const auto* fixed = Find(kFixed, name);
  if (fixed == std::end(kFixed)) {
    out.push_back(JoinFlag(name, value));
    return absl::OkStatus();
  }
  if (!fixed->takes_value) return fixed->values == "*" ? absl::OkStatus() : Lacks(name, fixed->lacking);
  const std::string given = take_value();
  if (fixed->values == "*" || absl::StrContains(absl::StrCat(" ", fixed->values, " "), absl::StrCat(" ", given, " "))) {
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
  const bool own = arguments[0] != "serve" && arguments[0] != "chat" && arguments[0] != "api_client";
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
