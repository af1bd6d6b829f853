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
#include "base/status.h"
#include "clients/cli/child_process.h"
#include "clients/cli/elapsed_line.h"
#include "clients/cli/model_name.h"
#include "clients/cli/ready_line.h"

namespace berth::cli {
namespace {

// Of a server whose gateway checks its callers.
void AddGatewayFlags(CLI::App& app, std::vector<std::string>& gateway_flags) {
  // First: it replaces the whole list, to which the others add.
  app.add_option("--gateway-flag", gateway_flags, "A flag for the gateway, as --gateway-flag=--max-waiting=100");
  const auto add = [&](const char* name, const char* what) {
    app.add_option_function<std::string>(
        name,
        [&gateway_flags, name](const std::string& value) {
          gateway_flags.insert(gateway_flags.end(), {name, value});
        },
        what);
  };
  app.add_option_function<std::vector<std::string>>(
      "--api-keys",
      [&gateway_flags](const std::vector<std::string>& keys) {
        for (const std::string& key : keys) gateway_flags.push_back(absl::StrCat("--api-keys=", key));
      },
      "Keys that callers may use; default: none is asked for");
  add("--api-keys-file", "File of keys, tenants and their limits");
  add("--ssl-certfile", "Certificate for callers (PEM)");
  add("--ssl-keyfile", "Its key (PEM)");
  add("--ssl-ca-certs", "CA of the callers: they need certificates of it (PEM)");
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
  port("--port", serve.http_port, "Port of the OpenAI API");
  port("--grpc-port", serve.grpc_port, "Port of the gRPC API");
  port("--admin-port", serve.admin_port, "The gateway's port of AdminService and reflection");
  port("--metrics-port", serve.metrics_port, "The gateway's port of /metrics, /live and /ready");
  app.add_option("--host", serve.host, "Address to listen on")->capture_default_str();
  app.add_flag("--sim", flags.sim, "Serve the simulated test engine instead of a model");
  app.add_option("--model-name", serve.model_name, "Name to serve the model by; default: the file's or directory's");
  // First: it replaces the whole list, to which others add.
  app.add_option("--worker-flag", serve.worker_flags, "A flag for each worker, as --worker-flag=--depth=2");
  app.add_option_function<std::string>(
      "--chat-template",
      [&serve](const std::string& name) { serve.worker_flags.push_back(absl::StrCat("--chat-template=", name)); },
      "A built-in chat template or a file of one; default: the model's");
  app.add_option("--session-len", flags.session_len, "Tokens of a session's context")->check(CLI::PositiveNumber);
  app.add_option("--max-batch-size", flags.max_batch_size, "Sequences at once per worker")->check(CLI::PositiveNumber);
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
  app.add_flag_callback(
      "--stop-with-stdin", [&flags] { flags.serve.lifeline = STDIN_FILENO; },
      "Stop when standard input is closed: for a program that starts this one");
  AddServerFlags(app, flags);
  AddGatewayFlags(app, flags.serve.gateway_flags);
}

absl::Status RunServe(ServeFlags flags) {
  ServeOptions& serve = flags.serve;
  if (serve.model.empty() != flags.sim) return absl::InvalidArgumentError("want one of a model and --sim");
  if (serve.workers > 1 && absl::StrContains(serve.device, ':')) {
    return absl::InvalidArgumentError(absl::StrCat("--device is ", serve.device, ", one GPU for ", serve.workers, " workers"));
  }
  BERTH_ASSIGN_OR_RETURN(const std::string path, ResolveModel(serve.model, getenv));
  if (path != serve.model && serve.model_name.empty()) serve.model_name = serve.model;
  serve.model = path;
  std::unique_ptr<TemporaryFolder> folder;
  if (serve.journal.empty()) {
    BERTH_ASSIGN_OR_RETURN(folder, TemporaryFolder::Make());
    serve.journal = absl::StrCat("sqlite:", folder->path(), "/sessions.db");
  }
  BERTH_ASSIGN_OR_RETURN(serve.program_folder, ProgramFolder());
  serve.cores = CoreCount();
  const auto add = [&](const char* name, const std::optional<int>& value) {
    if (value.has_value()) serve.worker_flags.insert(serve.worker_flags.end(), {name, absl::StrCat(*value)});
  };
  add("--session-len", flags.session_len);
  add("--max-batch-size", flags.max_batch_size);
  std::optional<ElapsedLine> starting("starting");
  return Serve(serve, [&](const ReadyLine& ready) {
    starting.reset();
    if (flags.ready_line) {
      std::cout << FormatReadyLine(ready) << std::endl;
    } else {
      const bool tls = std::count(serve.gateway_flags.begin(), serve.gateway_flags.end(), "--ssl-certfile") > 0;
      std::cout << "serving at " << (tls ? "https://" : "http://") << serve.host << ":" << ready.http_port << " (OpenAI) and "
                << serve.host << ":" << ready.grpc_port << " (gRPC)" << std::endl;
    }
  });
}

absl::StatusOr<std::vector<std::string>> ServeArguments(const ServeFlags& flags) {
  BERTH_ASSIGN_OR_RETURN(const std::string folder, ProgramFolder());
  const ServeOptions& serve = flags.serve;
  std::vector<std::string> arguments = {folder + "/berth", "serve", "--ready-line"};
  const auto add = [&](const char* name, const std::string& value) { arguments.insert(arguments.end(), {name, value}); };
  arguments.push_back(flags.sim ? "--sim" : serve.model);
  if (!serve.journal.empty()) add("--journal", serve.journal);
  for (const std::string& flag : serve.worker_flags) arguments.push_back(absl::StrCat("--worker-flag=", flag));
  add("--workers", absl::StrCat(serve.workers));
  add("--device", serve.device);
  add("--host", serve.host);
  add("--port", absl::StrCat(serve.http_port));
  add("--grpc-port", absl::StrCat(serve.grpc_port));
  add("--admin-port", absl::StrCat(serve.admin_port));
  add("--metrics-port", absl::StrCat(serve.metrics_port));
  if (!serve.model_name.empty()) add("--model-name", serve.model_name);
  if (flags.session_len.has_value()) add("--session-len", absl::StrCat(*flags.session_len));
  if (flags.max_batch_size.has_value()) add("--max-batch-size", absl::StrCat(*flags.max_batch_size));
  if (serve.cpu_threads > 0) add("--cpu-threads", absl::StrCat(serve.cpu_threads));
  return arguments;
}

}  // namespace berth::cli
