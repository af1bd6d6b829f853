#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "CLI/App.hpp"
#include "CLI/Config.hpp"
#include "CLI/Formatter.hpp"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "base/status.h"
#include "clients/cli/admin_command.h"
#include "clients/cli/bench_serve_command.h"
#include "clients/cli/chat.h"
#include "clients/cli/completion.h"
#include "clients/cli/conversation.h"
#include "clients/cli/environment.h"
#include "clients/cli/interrupt_watcher.h"
#include "clients/cli/local_server.h"
#include "clients/cli/model_name.h"
#include "clients/cli/old_spellings.h"
#include "clients/cli/ready_line.h"
#include "clients/cli/serve.h"
#include "clients/cli/terminal.h"
#include "nlohmann/json.hpp"
#include "proto/rpc/channel.h"
#include "proto/rpc/process.h"
#include "proto/rpc/tls.h"

namespace berth::cli {
namespace {

constexpr int kFailed = 1, kWrongUsage = 2, kNotOffered = 3;
constexpr char kExitCodes[] =
    "Exit codes: 0 done; 1 it failed, and standard error says why; 2 the command line is wrong; 3 what was asked for does not "
    "exist.";

struct Flags {
  ServeOptions serve;
  bool ready_line = false;
  bool sim = false;
  std::optional<int> session_len, max_batch_size;

  std::string server = "127.0.0.1:23334";
  std::string api_key;
  ConversationOptions conversation;
  std::optional<std::string> prompt;
  std::optional<float> temperature, top_p;
  std::optional<int> top_k, max_tokens;
  std::optional<uint64_t> seed;
  rpc::TlsOptions tls;
};

void AddServeFlags(CLI::App& app, Flags& flags) {
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
  app.add_option("--session-len", flags.session_len, "Tokens of a session's context")->check(CLI::PositiveNumber);
  app.add_option("--max-batch-size", flags.max_batch_size, "Sequences at once per worker")->check(CLI::PositiveNumber);
  app.add_option("--device", serve.device, "cpu; auto or cuda: each worker a GPU; auto:K or cuda:K: GPU K for the only worker")
      ->capture_default_str();
  app.add_option("--cpu-threads", serve.cpu_threads, "Threads per worker; default: an equal share of the cores")
      ->check(CLI::PositiveNumber);
  app.add_option("--journal", serve.journal,
                 "Where the workers keep sessions, sqlite:PATH, a Redis URL or memory; default: a file for this run");
  app.add_option("--worker-flag", serve.worker_flags, "A flag for each worker, as --worker-flag=--depth=2");
}

// Of a server whose gateway checks its callers.
void AddGatewayFlags(CLI::App& app, std::vector<std::string>& gateway_flags) {
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
  app.add_option("--gateway-flag", gateway_flags, "A flag for the gateway, as --gateway-flag=--max-waiting=100");
}

void AddChatFlags(CLI::App& app, Flags& flags) {
  app.add_option("--prompt", flags.prompt, "Answer this and exit");
  app.add_option("--system", flags.conversation.system, "System message");
  app.add_option("--max-tokens", flags.max_tokens, "Tokens of an answer")->check(CLI::PositiveNumber);
  app.add_option("--temperature", flags.temperature, "0 is greedy")->check(CLI::Range(0.0, 2.0));
  app.add_option("--top-p", flags.top_p)->check(CLI::Range(0.0, 1.0));
  app.add_option("--top-k", flags.top_k)->check(CLI::NonNegativeNumber);
  app.add_option("--seed", flags.seed, "Makes sampling repeatable");
  app.add_option("--session-id", flags.conversation.session_id, "Name of the session on the server; default: a drawn one");
}

int CoreCount() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

int Fail(const absl::Status& status) {
  std::cerr << "berth: " << status.message() << std::endl;
  return absl::IsUnimplemented(status) ? kNotOffered : kFailed;
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

absl::Status RunServe(Flags flags) {
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
  return Serve(serve, [&](const ReadyLine& ready) {
    if (flags.ready_line) {
      std::cout << FormatReadyLine(ready) << std::endl;
    } else {
      const bool tls = std::count(serve.gateway_flags.begin(), serve.gateway_flags.end(), "--ssl-certfile") > 0;
      std::cout << "serving at " << (tls ? "https://" : "http://") << serve.host << ":" << ready.http_port << " (OpenAI) and "
                << serve.host << ":" << ready.grpc_port << " (gRPC)" << std::endl;
    }
  });
}

// The arguments of a `berth serve` like this process's `berth chat`.
absl::StatusOr<std::vector<std::string>> ServeArguments(const Flags& flags) {
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

// With editing and a history where somebody types.
void TalkTo(Conversation& conversation) {
  if (!isatty(STDIN_FILENO)) return Chat(conversation, LinesOf(std::cin, std::cout), std::cout);
  const char* const home = getenv("HOME");
  Terminal terminal(home == nullptr ? "" : absl::StrCat(home, "/.berth_history"));
  Chat(
      conversation, [&terminal](const std::string& prompt) { return terminal.ReadLine(prompt); }, std::cout);
}

absl::Status RunChat(Flags flags) {
  std::unique_ptr<LocalServer> local;
  std::error_code ignored;
  if (!std::filesystem::exists(flags.serve.model, ignored) && ServerAddress(flags.serve.model).ok()) {
    flags.server = std::exchange(flags.serve.model, {});
  }
  BERTH_ASSIGN_OR_RETURN(flags.server, ServerAddress(flags.server));
  if (!flags.serve.model.empty() || flags.sim) {
    BERTH_ASSIGN_OR_RETURN(std::vector<std::string> arguments, ServeArguments(flags));
    std::cerr << "starting " << (flags.sim ? "the simulated engine" : flags.serve.model) << " …" << std::endl;
    BERTH_ASSIGN_OR_RETURN(local, LocalServer::Start(std::move(arguments)));
    flags.server = absl::StrCat(flags.serve.host, ":", local->ready().grpc_port);
    if (!flags.prompt.has_value()) {
      std::cerr << "ready; also at http://" << flags.serve.host << ":" << local->ready().http_port << std::endl;
    }
  }
  ConversationOptions& options = flags.conversation;
  options.model = local == nullptr ? flags.serve.model_name : "";
  if (flags.temperature.has_value()) options.sampling.set_temperature(*flags.temperature);
  if (flags.top_p.has_value()) options.sampling.set_top_p(*flags.top_p);
  if (flags.top_k.has_value()) options.sampling.set_top_k(*flags.top_k);
  if (flags.seed.has_value()) options.sampling.set_seed(*flags.seed);
  if (flags.max_tokens.has_value()) options.stop.set_max_tokens(*flags.max_tokens);
  BlockInterrupts();  // before gRPC starts its threads
  BERTH_ASSIGN_OR_RETURN(
      const auto client,
      client::Client::Make({.gateways = absl::StrSplit(flags.server, ','), .api_key = flags.api_key, .tls = flags.tls}));
  Conversation conversation(*client, options);
  const InterruptWatcher interrupts([&conversation] {
    if (!conversation.Interrupt()) std::cerr << "\n(`exit` leaves)" << std::endl;
  });
  if (!flags.prompt.has_value()) {
    TalkTo(conversation);
    return absl::OkStatus();
  }
  const absl::Status status = conversation.Ask(*flags.prompt, [](std::string_view text) { std::cout << text << std::flush; });
  std::cout << std::endl;
  conversation.Close().IgnoreError();
  return status;
}

// As lines, or as one JSON object.
absl::Status CheckEnvironment(bool json, const std::string& dump_file) {
  nlohmann::ordered_json object;
  for (const auto& [name, value] : DescribeEnvironment(BERTH_VERSION)) {
    object[name] = value;
    if (!json) std::cout << name << ": " << value << "\n";
  }
  if (json) std::cout << object.dump(2) << "\n";
  if (dump_file.empty()) return absl::OkStatus();
  std::ofstream file(dump_file);
  file << object.dump(2) << std::endl;
  return file.good() ? absl::OkStatus() : absl::InvalidArgumentError(absl::StrCat("cannot write ", dump_file));
}

// Runs a sibling program in place of this one; returns when that fails.
absl::Status Become(const std::string& program, std::vector<std::string> arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::string folder, ProgramFolder());
  const std::string path = absl::StrCat(folder, "/", program);
  std::vector<char*> pointers = {const_cast<char*>(path.c_str())};
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  execv(path.c_str(), pointers.data());
  return absl::NotFoundError(absl::StrCat("cannot run ", path, ": ", strerror(errno)));
}

int Run(int argc, char** argv) {
  Flags serve_flags, chat_flags;
  // The own server of a chat is in nobody's way.
  chat_flags.serve.http_port = chat_flags.serve.grpc_port = chat_flags.serve.admin_port = chat_flags.serve.metrics_port = 0;
  absl::StatusOr<std::vector<std::string>> arguments = Modernise({argv + 1, argv + argc});
  if (!arguments.ok()) return Fail(arguments.status());
  CLI::App app("Berth serves large language models");
  app.footer(kExitCodes);
  app.set_version_flag("--version", "berth " BERTH_VERSION);
  app.require_subcommand(1);
  CLI::App& serve = *app.add_subcommand("serve", "Start a gateway and workers for a model");
  serve.add_option("model", serve_flags.serve.model,
                   "A GGUF file, a Hugging Face directory, a workspace, or org/model of the Hugging Face hub");
  serve.add_flag("--ready-line", serve_flags.ready_line, "Print the ports as a line of JSON when ready");
  serve.add_flag_callback(
      "--stop-with-stdin", [&serve_flags] { serve_flags.serve.lifeline = STDIN_FILENO; },
      "Stop when standard input is closed: for a program that starts this one");
  AddServeFlags(serve, serve_flags);
  AddGatewayFlags(serve, serve_flags.serve.gateway_flags);
  CLI::App& chat = *app.add_subcommand("chat", "Talk to a model");
  auto* const model =
      chat.add_option("model", chat_flags.serve.model, "Start a server for this model, as for berth serve; or --server's");
  chat.add_option("--server", chat_flags.server,
                  "Talk to these gateways (or a worker): host:port,… of their gRPC APIs, or http://host:port of one's HTTP API")
      ->excludes(model)
      ->capture_default_str();
  AddServeFlags(chat, chat_flags);
  AddChatFlags(chat, chat_flags);
  AddClientTlsFlags(chat, chat_flags.tls);
  chat.add_option("--api-key", chat_flags.api_key, "Key for the server");
  AdminCommand admin(*app.add_subcommand("admin", "Look after a running gateway or worker"));
  CLI::App& bench = *app.add_subcommand("bench", "Measure")->require_subcommand(1);
  CLI::App& bench_engine =
      *bench.add_subcommand("engine", "The engine without RPC: the flags of berth-bench")->prefix_command();
  ServeBenchFlags serve_bench_flags;
  CLI::App& bench_serve = *bench.add_subcommand("serve", "A running server over gRPC, as its callers see it");
  AddServeBenchFlags(bench_serve, serve_bench_flags);
  CLI::App& check_env = *app.add_subcommand("check-env", "Say what a report of a fault should: system, GPUs, libraries");
  bool json = false;
  std::string dump_file, shell;
  check_env.add_flag("--json", json, "As JSON");
  check_env.add_option("--dump-file", dump_file, "Write it to this file too, as JSON");
  CLI::App& completion = *app.add_subcommand("completion", "Print what makes a shell complete commands and flags");
  completion.add_option("shell", shell, "bash or zsh: source <(berth completion bash)")->required();
  const std::vector<CLI::App*> model_commands = {
      app.add_subcommand("convert", "Write a model in the form that workers map")->prefix_command(),
      app.add_subcommand("list", "The families and formats that Berth runs")->prefix_command(),
      app.add_subcommand("inspect", "What is in a model, and the memory that it takes")->prefix_command()};
  for (CLI::App* command : model_commands) command->set_help_flag();
  std::reverse(arguments->begin(), arguments->end());  // as CLI11 wants them
  try {
    app.parse(*std::move(arguments));
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kWrongUsage;
  }

  absl::Status status;
  const auto model_command =
      std::find_if(model_commands.begin(), model_commands.end(), [](CLI::App* command) { return command->parsed(); });
  if (model_command != model_commands.end()) {
    std::vector<std::string> rest = (*model_command)->remaining();
    rest.insert(rest.begin(), (*model_command)->get_name());
    status = Become("berth-model", std::move(rest));
  } else if (check_env.parsed()) {
    status = CheckEnvironment(json, dump_file);
  } else if (completion.parsed()) {
    const absl::StatusOr<std::string> script = CompletionScript(app, shell);
    if (script.ok()) std::cout << *script;
    status = script.status();
  } else if (bench_engine.parsed()) {
    status = Become("berth-bench", bench_engine.remaining());
  } else if (admin.parsed()) {
    status = admin.Run();
  } else if (bench_serve.parsed()) {
    status = RunServeBenchCommand(serve_bench_flags);
  } else if (serve.parsed()) {
    BlockServeSignals();
    status = RunServe(serve_flags);
  } else {
    status = RunChat(chat_flags);
  }
  return status.ok() ? 0 : Fail(status);
}

}  // namespace
}  // namespace berth::cli

int main(int argc, char** argv) {
  berth::rpc::InitProcess();
  return berth::cli::Run(argc, argv);
}
