#include "clients/cli/serve_command.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "CLI/Config.hpp"
#include "CLI/Formatter.hpp"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "clients/cli/child_process.h"
#include "clients/cli/elapsed_line.h"
#include "clients/cli/model_name.h"
#include "clients/cli/parse_line.h"
#include "clients/cli/ready_line.h"

namespace berth::cli {
namespace {

// A flag that a program of the server has by the same name, to which it is handed.
struct HandedFlag {
  const char *name, *what;
  enum { kValue, kSeveralValues, kSwitch } kind = kValue;
  // Of what the program would refuse only once the model is loaded.
  const CLI::Validator* check = nullptr;
};

constexpr HandedFlag kWorkerFlags[] = {
    {"--chat-template", "A built-in chat template or a file of one; default: the model's"},
    {"--tool-call-parser", "Format of tool calls: hermes, llama3, internlm2, mistral or none; default: the chat template's"},
    {"--session-len", "Tokens of a session's context", HandedFlag::kValue, &CLI::PositiveNumber},
    {"--max-batch-size", "Sequences at once per worker", HandedFlag::kValue, &CLI::PositiveNumber},
    {"--step-tokens", "Tokens of a step, of prompts and answers together"},
    {"--dtype", "Of a GPU's weights, activations and KV: bf16, f16 or auto, what suits the model (default)"},
    {"--cache-max-entry-count", "Share of the free memory for KV; default: 0.8 of a GPU's, 512 MiB of the host's"},
    {"--kv-bytes", "At most so much memory for KV"},
    {"--no-prefix-cache", "Never reuse cached KV blocks", HandedFlag::kSwitch},
    {"--batch-invariant", "On a GPU: equal logits whatever else is computed beside; slower", HandedFlag::kSwitch},
    {"--session-ttl", "Hours until an unused session expires"},
    {"--max-sessions", "Sessions open at once per worker"},
};

constexpr HandedFlag kGatewayFlags[] = {
    {"--api-keys", "Keys that callers may use; default: none is asked for", HandedFlag::kSeveralValues},
    {"--api-keys-file", "File of keys, tenants and their limits", HandedFlag::kValue, &CLI::ExistingFile},
    {"--ssl-certfile", "Certificate for callers (PEM)", HandedFlag::kValue, &CLI::ExistingFile},
    {"--ssl-keyfile", "Its key (PEM)", HandedFlag::kValue, &CLI::ExistingFile},
    {"--ssl-ca-certs", "CA of the callers: they need certificates of it (PEM)", HandedFlag::kValue, &CLI::ExistingFile},
    {"--allow-origins", "Origins whose pages may call over HTTP; *: all", HandedFlag::kSeveralValues},
    {"--http-request-seconds", "A caller that takes longer to send a request is cut off", HandedFlag::kValue,
     &CLI::PositiveNumber},
    {"--http-heartbeat-seconds", "A stream that says nothing for so long says so", HandedFlag::kValue, &CLI::PositiveNumber},
    {"--http-threads", "Threads for HTTP", HandedFlag::kValue, &CLI::PositiveNumber},
    {"--max-streams", "Generations at once", HandedFlag::kValue, &CLI::PositiveNumber},
    {"--max-waiting", "Requests that wait for room", HandedFlag::kValue, &CLI::NonNegativeNumber},
};

// `flags`: where they are put down.
void AddHanded(CLI::App& app, absl::Span<const HandedFlag> handed, std::vector<std::string>& flags) {
  for (const auto& [name, what, kind, check] : handed) {
    if (kind == HandedFlag::kSwitch) {
      app.add_flag_callback(
          name, [&flags, name = name] { flags.push_back(name); }, what);
      continue;
    }
    const auto put_down = [&flags, name = name, several = kind == HandedFlag::kSeveralValues](const auto& values) {
      for (const std::string& value : values) {
        if (several) {
          flags.push_back(absl::StrCat(name, "=", value));  // it may look like a flag
        } else {
          flags.insert(flags.end(), {name, value});
        }
      }
    };
    CLI::Option* const option = app.add_option_function<std::vector<std::string>>(name, put_down, what);
    if (kind == HandedFlag::kValue) option->expected(1);
    if (check != nullptr) option->check(*check);
  }
}

int CoreCount() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

// A folder that goes with this object.
class TemporaryFolder {
 public:
  static absl::StatusOr<std::unique_ptr<TemporaryFolder>> Make() {
    std::error_code error;
    std::string path = (std::filesystem::temp_directory_path(error) / "berth-XXXXXX").string();
    if (error || mkdtemp(path.data()) == nullptr) return absl::InternalError(absl::StrCat("cannot make the folder ", path));
    return std::unique_ptr<TemporaryFolder>(new TemporaryFolder(path));
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }

 private:
  explicit TemporaryFolder(std::string path) : path_(std::move(path)) {}
  const std::string path_;
};

}  // namespace

void AddServerFlags(CLI::App& app, ServeFlags& flags) {
  ServeOptions& serve = flags.serve;
  app.add_option("--workers", serve.workers, "Worker processes")->check(CLI::Range(1, 1024))->capture_default_str();
  const auto port = [&](const char* name, int& value, const char* what) {
    app.add_option(name, value, absl::StrCat(what, "; 0: any free one"))->check(CLI::Range(0, 65535))->capture_default_str();
  };
  // Before the ports that follow it, which go before what it sets.
  app.add_option_function<int>(
         "--port",
         [&serve](int first) {
           serve.http_port = first;
           serve.grpc_port = first == 0 ? 0 : first + 1;
           serve.admin_port = first == 0 ? 0 : first + 2;
           serve.metrics_port = first == 0 ? 0 : first + 3;
         },
         "Port of the OpenAI API; the other three are the next ones where they are not given; 0: any free ones")
      ->check(CLI::Range(0, 65532))
      ->default_str(absl::StrCat(serve.http_port));
  port("--grpc-port", serve.grpc_port, "Port of the gRPC API");
  port("--admin-port", serve.admin_port, "The gateway's port of AdminService and reflection");
  port("--metrics-port", serve.metrics_port, "The gateway's port of /metrics, /live and /ready");
  app.add_option("--host", serve.host, "Address to listen on")->capture_default_str();
  app.add_flag("--sim", flags.sim, "Serve the simulated test engine instead of a model");
  app.add_option("--model-name", serve.model_name, "Name to serve the model by; default: the file's or directory's");
  // First: they replace the whole lists, to which others add.
  app.add_option("--worker-flag", serve.worker_flags, "A flag for each worker, as --worker-flag=--depth=2");
  app.add_option("--gateway-flag", serve.gateway_flags, "A flag for the gateway, as --gateway-flag=--move-idle=5");
  app.add_option_function<std::string>(
         "--log-level",
         [&serve](const std::string& level) {
           for (auto* const flags : {&serve.worker_flags, &serve.gateway_flags}) {
             flags->insert(flags->end(), {"--log-level", level});
           }
         },
         "Of the workers and the gateway")
      ->check(CLI::IsMember({"debug", "info", "warn", "error"}));
  AddHanded(app, kWorkerFlags, serve.worker_flags);
  app.add_option("--device", serve.device, "cpu; auto or cuda: each worker a GPU; auto:K or cuda:K: GPU K for the only worker")
      ->capture_default_str();
  app.add_option("--cpu-threads", serve.cpu_threads, "Threads per worker; default: an equal share of the cores")
      ->check(CLI::PositiveNumber);
  app.add_option("--journal", serve.journal,
                 "Where the workers keep sessions, sqlite:PATH, a Redis URL or memory; default: a file for this run");
}

void AddServeFlags(CLI::App& app, ServeFlags& flags) {
  app.add_option("model", flags.serve.model,
                 "A GGUF file, a Hugging Face directory, a workspace, or org/model of the Hugging Face hub");
  app.add_flag("--ready-line", flags.ready_line, "Print the ports as a line of JSON when ready");
  app.add_flag("--loaded-lines", flags.loaded_lines,
               "Before that, a line of JSON for each percent of the weights that is loaded");
  app.add_flag_callback(
      "--stop-with-stdin", [&flags] { flags.serve.lifeline = STDIN_FILENO; },
      "Stop when standard input is closed: for a program that starts this one");
  app.add_option("--drain-seconds", flags.serve.drain_seconds, "Time for running requests when told to stop")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  AddServerFlags(app, flags);
  AddHanded(app, kGatewayFlags, flags.serve.gateway_flags);
}

absl::Status RunServe(ServeFlags flags) {
  ServeOptions& serve = flags.serve;
  if (serve.model.empty() != flags.sim) return WrongUsage("want one of a model and --sim");
  if (serve.workers > 1 && absl::StrContains(serve.device, ':')) {
    return WrongUsage(absl::StrCat("--device is ", serve.device, ", one GPU for ", serve.workers, " workers"));
  }
  BERTH_RETURN_IF_ERROR(ResolveServedModel(serve));
  std::unique_ptr<TemporaryFolder> folder;
  if (serve.journal.empty()) {
    BERTH_ASSIGN_OR_RETURN(folder, TemporaryFolder::Make());
    serve.journal = absl::StrCat("sqlite:", folder->path(), "/sessions.db");
  }
  BERTH_ASSIGN_OR_RETURN(serve.program_folder, ProgramFolder());
  serve.cores = CoreCount();
  std::optional<ElapsedLine> starting("starting");
  const auto on_loaded = [&](int percent) {
    starting->SetPercent(percent);
    if (flags.loaded_lines) std::cout << FormatLoadedLine(percent) << std::endl;
  };
  const auto on_ready = [&](const ReadyLine& ready) {
    starting.reset();
    if (flags.ready_line) {
      std::cout << FormatReadyLine(ready) << std::endl;
    } else {
      const bool tls = std::count(serve.gateway_flags.begin(), serve.gateway_flags.end(), "--ssl-certfile") > 0;
      std::cout << "serving at " << (tls ? "https://" : "http://") << serve.host << ":" << ready.http_port << " (OpenAI) and "
                << serve.host << ":" << ready.grpc_port << " (gRPC)" << std::endl;
    }
  };
  return Serve(serve, on_ready, on_loaded);
}

absl::Status ResolveServedModel(ServeOptions& serve) {
  BERTH_ASSIGN_OR_RETURN(const std::string path, ResolveModel(serve.model, getenv));
  if (path != serve.model && serve.model_name.empty()) serve.model_name = serve.model;
  serve.model = path;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> ServeArguments(const ServeFlags& flags) {
  BERTH_ASSIGN_OR_RETURN(const std::string folder, ProgramFolder());
  const ServeOptions& serve = flags.serve;
  std::vector<std::string> arguments = {folder + "/berth", "serve", "--ready-line", "--loaded-lines"};
  const auto add = [&](const char* name, const std::string& value) { arguments.insert(arguments.end(), {name, value}); };
  arguments.push_back(flags.sim ? "--sim" : serve.model);
  if (!serve.journal.empty()) add("--journal", serve.journal);
  for (const std::string& flag : serve.worker_flags) arguments.push_back(absl::StrCat("--worker-flag=", flag));
  for (const std::string& flag : serve.gateway_flags) arguments.push_back(absl::StrCat("--gateway-flag=", flag));
  add("--workers", absl::StrCat(serve.workers));
  add("--device", serve.device);
  add("--host", serve.host);
  add("--port", absl::StrCat(serve.http_port));
  add("--grpc-port", absl::StrCat(serve.grpc_port));
  add("--admin-port", absl::StrCat(serve.admin_port));
  add("--metrics-port", absl::StrCat(serve.metrics_port));
  if (!serve.model_name.empty()) add("--model-name", serve.model_name);
  if (serve.cpu_threads > 0) add("--cpu-threads", absl::StrCat(serve.cpu_threads));
  return arguments;
}

}  // namespace berth::cli
