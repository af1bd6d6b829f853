#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "CLI/App.hpp"
#include "CLI/Config.hpp"
#include "CLI/Formatter.hpp"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "clients/cli/admin_command.h"
#include "clients/cli/bench_serve_command.h"
#include "clients/cli/chat_command.h"
#include "clients/cli/child_process.h"
#include "clients/cli/completion.h"
#include "clients/cli/environment.h"
#include "clients/cli/old_spellings.h"
#include "clients/cli/parse_line.h"
#include "clients/cli/serve_command.h"
#include "nlohmann/json.hpp"
#include "proto/rpc/process.h"

namespace berth::cli {
namespace {

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
  if (errno == ENOENT) return absl::UnimplementedError(absl::StrCat("this build has no ", path));
  return absl::NotFoundError(absl::StrCat("cannot run ", path, ": ", strerror(errno)));
}

// All commands: their flags, and what the parsed one does.
class Commands {
 public:
  explicit Commands(CLI::App& app) : app_(app) {
    AddServeFlags(serve_, serve_flags_);
    AddChatFlags(chat_, chat_flags_);
    AddApiClientFlags(api_client_, chat_flags_);
    bench_.require_subcommand(1);
    bench_throughput_.allow_extras()->set_help_flag();
    bench_throughput_.add_flag("-h,--help", throughput_help_, "Print these flags and those of bench engine");
    bench_throughput_.add_option("--num-prompts", throughput_requests_, "Requests of the trace")->capture_default_str();
    bench_throughput_.add_option("--concurrency", throughput_streams_, "Of them, so many at any time")->capture_default_str();
    AddServeBenchFlags(bench_serve_, bench_flags_);
    check_env_.add_flag("--json", json_, "As JSON");
    check_env_.add_option("--dump-file", dump_file_, "Write it to this file too, as JSON");
    completion_.add_option("shell", shell_, "bash or zsh: source <(berth completion bash)")
        ->required()
        ->check(CLI::IsMember({"bash", "zsh"}));
    for (CLI::App* command : {&bench_engine_, &bench_tune_, &bench_generation_, &convert_, &list_, &inspect_}) {
      command->prefix_command()->set_help_flag();
    }
  }

  absl::Status Run() {
    if (serve_.parsed()) {
      BlockServeSignals();
      return RunServe(serve_flags_);
    }
    if (chat_.parsed() || api_client_.parsed()) {
      if (const char* const home = getenv("HOME")) chat_flags_.history_file = absl::StrCat(home, "/.berth_history");
      return RunChat(chat_flags_);
    }
    if (admin_.parsed()) return admin_.Run();
    if (bench_serve_.parsed()) return RunServeBenchCommand(bench_flags_);
    if (bench_engine_.parsed()) return Become("berth-bench", bench_engine_.remaining());
    if (bench_tune_.parsed()) return Become("berth-tune", bench_tune_.remaining());
    if (bench_generation_.parsed()) return BenchEngine(bench_generation_, "generation");
    if (throughput_help_) {
      std::cout << bench_throughput_.help("berth bench") << std::endl;
      return Become("berth-bench", {"--help"});
    }
    if (bench_throughput_.parsed()) {
      return BenchEngine(bench_throughput_, absl::StrCat("C:", throughput_requests_, "@", throughput_streams_));
    }
    if (check_env_.parsed()) return CheckEnvironment(json_, dump_file_);
    if (completion_.parsed()) {
      std::cout << CompletionScript(app_, shell_);
      return absl::OkStatus();
    }
    const CLI::App& command = convert_.parsed() ? convert_ : list_.parsed() ? list_ : inspect_;
    std::vector<std::string> rest = command.remaining();
    rest.insert(rest.begin(), command.get_name());
    return Become("berth-model", std::move(rest));
  }

 private:
  static absl::Status BenchEngine(const CLI::App& command, const std::string& loads) {
    std::vector<std::string> arguments = command.remaining();
    arguments.insert(arguments.begin(), {"--loads", loads});
    return Become("berth-bench", std::move(arguments));
  }

  CLI::App& app_;
  ServeFlags serve_flags_;
  ChatFlags chat_flags_;
  ServeBenchFlags bench_flags_;
  bool json_ = false, throughput_help_ = false;
  std::string dump_file_, shell_;
  int throughput_requests_ = 1000, throughput_streams_ = 256;
  CLI::App& serve_ = *app_.add_subcommand("serve", "Start a gateway and workers for a model");
  CLI::App& chat_ = *app_.add_subcommand("chat", "Talk to a model");
  CLI::App& api_client_ = *app_.add_subcommand("api_client", "Talk to a server that runs");
  AdminCommand admin_{*app_.add_subcommand("admin", "Look after a running gateway or worker")};
  CLI::App& bench_ = *app_.add_subcommand("bench", "Measure");
  CLI::App& bench_engine_ = *bench_.add_subcommand("engine", "The engine without RPC: the flags of berth-bench");
  CLI::App& bench_tune_ = *bench_.add_subcommand(
      "tune", "Choose the algorithms of matrix products on a GPU, for the sources' table (builds with CUDA)");
  CLI::App& bench_throughput_ = *bench_.add_subcommand("throughput", "As bench engine, of a trace like shared conversations");
  CLI::App& bench_generation_ = *bench_.add_subcommand("generation", "As bench engine, of LMDeploy's grid of lengths");
  CLI::App& bench_serve_ = *bench_.add_subcommand("serve", "A running server, as its callers see it");
  CLI::App& check_env_ = *app_.add_subcommand("check-env", "Say what a report of a fault should: system, GPUs, libraries");
  CLI::App& completion_ = *app_.add_subcommand("completion", "Print what makes a shell complete commands and flags");
  CLI::App& convert_ = *app_.add_subcommand("convert", "Write a model in the form that workers map");
  CLI::App& list_ = *app_.add_subcommand("list", "The families and formats that Berth runs");
  CLI::App& inspect_ = *app_.add_subcommand("inspect", "What is in a model, and the memory that it takes");
};

int Run(int argc, char** argv) {
  absl::StatusOr<std::vector<std::string>> arguments = Modernise({argv + 1, argv + argc});
  if (!arguments.ok()) return ExitCode(arguments.status());
  CLI::App app("Berth serves large language models", "berth");
  app.footer(kExitCodes);
  app.set_version_flag("--version", "berth " BERTH_VERSION);
  app.require_subcommand(1);
  Commands commands(app);
  std::reverse(arguments->begin(), arguments->end());  // as CLI11 wants them
  if (const auto code = ParseLine(app, *std::move(arguments))) return *code;
  return ExitCode(commands.Run());
}

}  // namespace
}  // namespace berth::cli

int main(int argc, char** argv) {
  berth::rpc::InitProcess();
  return berth::cli::Run(argc, argv);
}
