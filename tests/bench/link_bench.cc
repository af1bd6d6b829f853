// CPU of a worker process less its engine's threads, per token that it sends over one link: the simulated engine steps at a
// fixed rate, every stream asks for text and one stop string. Prints one line per second of measurement.
//
//   link_bench [streams = 64] [step_ms = 10] [seconds = 10]

#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>

#include "absl/time/clock.h"
#include "grpcpp/client_context.h"
#include "nlohmann/json.hpp"
#include "proto/berth/v1/worker.grpc.pb.h"
#include "proto/rpc/channel.h"
#include "proto/rpc/process.h"

namespace {

using namespace berth;

// CPU ticks of each thread of a process.
std::map<std::string, double> ThreadSeconds(pid_t pid) {
  std::map<std::string, double> seconds;
  const std::string folder = "/proc/" + std::to_string(pid) + "/task";
  DIR* dir = opendir(folder.c_str());
  while (const dirent* entry = dir == nullptr ? nullptr : readdir(dir)) {
    if (entry->d_name[0] == '.') continue;
    std::ifstream stat(folder + "/" + entry->d_name + "/schedstat");
    double nanos = 0;
    if (stat >> nanos) seconds[entry->d_name] = nanos * 1e-9;
  }
  if (dir != nullptr) closedir(dir);
  return seconds;
}

struct Child {
  pid_t pid = 0;
  int port = 0;
};

Child StartWorker(const std::string& program, const std::string& step_ms, const std::string& slots) {
  int pipe_ends[2];
  if (pipe(pipe_ends) != 0) std::exit(1);
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(pipe_ends[1], 1);
    execl(program.c_str(), program.c_str(), "--sim", "--sim-step-ms", step_ms.c_str(), "--sim-slots", slots.c_str(),
          "--sim-kv-blocks", "65536", "--sim-max-length", "100000", "--log-level", "error", nullptr);
    _exit(127);
  }
  close(pipe_ends[1]);
  std::string line;
  for (char c = 0; read(pipe_ends[0], &c, 1) == 1 && c != '\n';) line += c;
  close(pipe_ends[0]);
  return {.pid = pid, .port = nlohmann::json::parse(line)["port"]};
}

}  // namespace

int main(int argc, char** argv) {
  rpc::InitProcess();
  const int streams = argc > 1 ? std::atoi(argv[1]) : 64;
  const std::string step_ms = argc > 2 ? argv[2] : "10";
  const int seconds = argc > 3 ? std::atoi(argv[3]) : 10;
  const std::string self = argv[0];
  const Child worker = StartWorker(self.substr(0, self.rfind('/') + 1) + "berth-worker", step_ms, std::to_string(streams));
  auto stub = v1::WorkerService::NewStub(
      rpc::MakeChannel("127.0.0.1:" + std::to_string(worker.port), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  auto link = stub->Attach(&context);
  v1::AttachRequest request;
  request.mutable_hello()->set_gateway_id("bench");
  request.mutable_hello()->set_epoch(1);
  for (int i = 1; i <= streams; ++i) {
    v1::Submit& submit = *request.add_submits();
    submit.set_stream_id(i);
    v1::GenerationSpec& spec = *submit.mutable_generation();
    spec.set_request_id("r" + std::to_string(i));
    spec.mutable_prompt()->set_text("measure me");
    spec.mutable_sampling()->set_seed(i);
    spec.mutable_stop()->set_max_tokens(99000);
    spec.mutable_stop()->add_stop_strings("a string that never comes");
  }
  link->Write(request);
  v1::AttachResponse frame;
  int64_t tokens = 0, frames = 0;
  std::map<std::string, double> before;
  absl::Time begin = absl::InfinitePast();
  const absl::Time warm = absl::Now() + absl::Seconds(2);
  absl::Time acknowledged = absl::Now();
  while (link->Read(&frame)) {
    const absl::Time now = absl::Now();
    if (begin == absl::InfinitePast() && now > warm) {
      begin = now;
      before = ThreadSeconds(worker.pid);
      tokens = frames = 0;
    }
    ++frames;
    for (const v1::StreamEvent& event : frame.events()) tokens += event.delta().token_ids_size();
    if (now - acknowledged > absl::Milliseconds(50)) {
      acknowledged = now;
      v1::AttachRequest acknowledgement;
      acknowledgement.set_acknowledged_frame(frame.frame());
      link->Write(acknowledgement);
    }
    if (begin != absl::InfinitePast() && now - begin > absl::Seconds(seconds)) break;
  }
  const std::map<std::string, double> after = ThreadSeconds(worker.pid);
  double total = 0;
  for (const auto& [thread, cpu] : after) {
    std::ifstream file("/proc/" + std::to_string(worker.pid) + "/task/" + thread + "/comm");
    std::string name;
    std::getline(file, name);
    const double used = cpu - (before.count(thread) ? before[thread] : 0);
    if (used > 0.001) std::printf("thread %s %-16s %6.2f us/token\n", thread.c_str(), name.c_str(), used * 1e6 / tokens);
    if (name != "engine" && name != "device") total += used;
  }
  std::printf("%d streams, %s ms steps: %.1f tokens/s in %.1f frames/s; %.2f us/token without engine and device threads\n",
              streams, step_ms.c_str(), static_cast<double>(tokens) / seconds, static_cast<double>(frames) / seconds,
              total * 1e6 / tokens);
  context.TryCancel();
  kill(worker.pid, SIGKILL);
  waitpid(worker.pid, nullptr, 0);
  return 0;
}
