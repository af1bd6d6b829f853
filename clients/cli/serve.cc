#include "clients/cli/serve.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/clock.h"
#include "base/status.h"
#include "clients/cli/supervised_program.h"
#include "spdlog/sinks/stdout_color_sinks.h"

namespace berth::cli {
namespace {

constexpr absl::Duration kGatewayStop = absl::Seconds(15);  // beyond the time of its requests
constexpr absl::Duration kWorkersStop = absl::Seconds(15);

sigset_t ServeSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (int number : {SIGINT, SIGTERM, SIGCHLD}) sigaddset(&set, number);
  struct sigaction hangup;
  sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler != SIG_IGN) sigaddset(&set, SIGHUP);  // else it is under nohup
  return set;
}

class Supervisor {
 public:
  Supervisor(const ServeOptions& options, const std::function<void(const ReadyLine&)>& on_ready,
             const std::function<void(int)>& on_loaded)
      : options_(options),
        on_ready_(on_ready),
        on_loaded_(on_loaded),
        signals_([] {
          const sigset_t set = ServeSignals();
          return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
        }()),
        lifeline_(options.lifeline) {
    const auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
    sink->set_pattern("%^%n%$ | %v");
    log_ = std::make_unique<spdlog::logger>("berth", sink);
    for (int i = 0; i < options_.workers; ++i) {
      workers_.push_back(std::make_unique<SupervisedProgram>(
          SupervisedProgram::Options{
              .name = absl::StrCat("worker-", i + 1), .arguments = [this, i] { return WorkerArguments(i); }, .watched = true},
          sink));
    }
    gateway_ = std::make_unique<SupervisedProgram>(
        SupervisedProgram::Options{.name = "gateway", .arguments = [this] { return GatewayArguments(); }}, sink);
  }
  ~Supervisor() { close(signals_); }

  absl::Status Run() {
    for (auto& worker : workers_) Fail(worker->Start(Now()));
    while (true) {
      if (!stopping_) Advance();
      if (stopping_) StopNext();
      if (stopping_ && !Running()) break;
      Wait();
      TakeSignals();
      for (SupervisedProgram* program : All()) {
        if (const auto how = program->Hear(Now())) Ended(*program, *how);
      }
    }
    return failure_;
  }

 private:
  static absl::Duration Now() { return base::SystemClock().Monotonic(); }

  std::vector<SupervisedProgram*> All() const {
    std::vector<SupervisedProgram*> all = {gateway_.get()};
    for (const auto& worker : workers_) all.push_back(worker.get());
    return all;
  }
  bool Running() const {
    const auto all = All();
    return std::any_of(all.begin(), all.end(), [](const SupervisedProgram* program) { return program->running(); });
  }

  std::vector<std::string> WorkerArguments(int index) const {
    const auto& ready = workers_[index]->ready();
    const int threads = options_.cpu_threads > 0 ? options_.cpu_threads : ShareOfCores(options_.cores, options_.workers, index);
    // A worker that is started again listens where the gateway knows it.
    std::vector<std::string> arguments = {options_.program_folder + "/berth-worker"};
    const auto add = [&](const char* flag, const std::string& value) { arguments.insert(arguments.end(), {flag, value}); };
    add("--worker-id", workers_[index]->name());
    add("--port", absl::StrCat(ready.has_value() ? ready->port : 0));
    add("--cpu-threads", absl::StrCat(threads));
    add("--journal", options_.journal);
    if (!options_.model_name.empty()) add("--model-name", options_.model_name);
    if (options_.model.empty()) {
      arguments.push_back("--sim");
    } else {
      add("--model", options_.model);
      const bool chosen = options_.device == "cpu" || absl::StrContains(options_.device, ':');
      add("--device", chosen ? options_.device : absl::StrCat(options_.device, ":", index));
    }
    arguments.insert(arguments.end(), options_.worker_flags.begin(), options_.worker_flags.end());
    return arguments;
  }

  std::vector<std::string> GatewayArguments() const {
    const auto list = absl::StrJoin(workers_, ",", [](std::string* out, const auto& worker) {
      absl::StrAppend(out, worker->name(), "=127.0.0.1:", worker->ready()->port);
    });
    const auto& ready = gateway_->ready();
    std::vector<std::string> arguments = {options_.program_folder + "/berth-gateway",
                                          "--workers",
                                          list,
                                          "--host",
                                          options_.host,
                                          "--http-port",
                                          absl::StrCat(ready.has_value() ? ready->http_port : options_.http_port),
                                          "--grpc-port",
                                          absl::StrCat(ready.has_value() ? ready->grpc_port : options_.grpc_port),
                                          "--admin-port",
                                          absl::StrCat(options_.admin_port),
                                          "--metrics-port",
                                          absl::StrCat(options_.metrics_port),
                                          "--drain-seconds",
                                          absl::StrCat(options_.drain_seconds),
                                          "--wait-workers"};
    arguments.insert(arguments.end(), options_.gateway_flags.begin(), options_.gateway_flags.end());
    return arguments;
  }

  void Wait() {
    std::vector<pollfd> polls = {{signals_, POLLIN, 0}, {lifeline_, 0, 0}};
    absl::Duration deadline = kill_at_;
    for (const SupervisedProgram* program : All()) {
      program->AppendPolls(polls);
      if (!stopping_) deadline = std::min(deadline, program->deadline());
    }
    const absl::Duration left = std::max(deadline - Now(), absl::ZeroDuration());
    const int timeout = deadline == absl::InfiniteDuration() ? -1 : static_cast<int>(absl::ToInt64Milliseconds(left)) + 1;
    poll(polls.data(), polls.size(), timeout);
    if (polls[1].revents == 0) return;
    lifeline_ = -1;
    Stop();
  }

  void TakeSignals() {
    signalfd_siginfo info;
    while (read(signals_, &info, sizeof(info)) == sizeof(info)) {
      if (info.ssi_signo != SIGCHLD) Stop();  // Hear sees which child it was
    }
  }

  void Stop() {
    if (stopping_) {
      for (SupervisedProgram* program : All()) program->Signal(SIGKILL);
    } else {
      log_->info("stopping");
    }
    stopping_ = true;
  }

  void Ended(SupervisedProgram& program, const std::string& how) {
    if (stopping_) return;
    log_->warn("{} ended: {}", program.name(), how);
    if (program.ready().has_value()) {
      program.RestartLater(Now());
    } else {
      Fail(absl::UnavailableError(absl::StrCat(program.name(), " did not start: ", how)));
    }
  }

  void Fail(const absl::Status& status) {
    if (status.ok()) return;
    failure_.Update(status);
    stopping_ = true;
  }

  // While serving: restarts, and the next step of the start.
  void Advance() {
    for (SupervisedProgram* program : All()) Fail(program->Tick(Now()));
    const bool workers_ready =
        std::all_of(workers_.begin(), workers_.end(), [](const auto& worker) { return worker->ready().has_value(); });
    if (!gateway_started_) TellLoaded();
    if (workers_ready && !gateway_started_) {
      gateway_started_ = true;
      Fail(gateway_->Start(Now()));
    }
    if (gateway_->ready().has_value() && !announced_) {
      announced_ = true;
      on_ready_(*gateway_->ready());
    }
  }

  void TellLoaded() {
    int sum = 0;
    for (const auto& worker : workers_) sum += worker->loaded_percent();
    const int percent = sum / static_cast<int>(workers_.size());
    if (percent != std::exchange(loaded_percent_, percent)) on_loaded_(percent);
  }

  // While stopping: tells those whose turn it is, once, and kills those that take too long.
  void StopNext() {
    if (gateway_->running() && !gateway_told_) {
      gateway_told_ = true;
      gateway_->Signal(SIGTERM);
      kill_at_ = Now() + absl::Seconds(options_.drain_seconds) + kGatewayStop;
    }
    if (!gateway_->running() && !workers_told_) {
      workers_told_ = true;
      for (auto& worker : workers_) worker->Signal(SIGTERM);
      kill_at_ = Now() + kWorkersStop;
    }
    if (Now() < kill_at_) return;
    kill_at_ = absl::InfiniteDuration();
    for (SupervisedProgram* program : All()) {
      if (program->running() && (workers_told_ || program == gateway_.get())) {
        log_->warn("{} does not stop: killed", program->name());
        program->Signal(SIGKILL);
      }
    }
  }

  const ServeOptions options_;
  const std::function<void(const ReadyLine&)> on_ready_;
  const std::function<void(int)> on_loaded_;
  int loaded_percent_ = 0;  // as on_loaded_ was told
  const int signals_;
  int lifeline_;  // negative once it has ended
  std::unique_ptr<spdlog::logger> log_;
  std::vector<std::unique_ptr<SupervisedProgram>> workers_;
  std::unique_ptr<SupervisedProgram> gateway_;
  bool gateway_started_ = false, announced_ = false, stopping_ = false, gateway_told_ = false, workers_told_ = false;
  absl::Duration kill_at_ = absl::InfiniteDuration();
  absl::Status failure_;
};

}  // namespace

void BlockServeSignals() {
  const sigset_t set = ServeSignals();
  sigprocmask(SIG_BLOCK, &set, nullptr);
}

int ShareOfCores(int cores, int workers, int index) { return std::max(1, cores / workers + (index < cores % workers ? 1 : 0)); }

absl::Status Serve(const ServeOptions& options, const std::function<void(const ReadyLine&)>& on_ready,
                   const std::function<void(int percent)>& on_loaded) {
  return Supervisor(options, on_ready, on_loaded).Run();
}

}  // namespace berth::cli
