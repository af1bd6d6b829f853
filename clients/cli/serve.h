#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "clients/cli/ready_line.h"

namespace berth::cli {

struct ServeOptions {
  std::string program_folder;  // where berth-gateway and berth-worker are
  std::string model;           // a GGUF file or a Hugging Face directory; empty: the simulated test engine
  std::string model_name;      // empty: the file's or directory's
  int workers = 1;
  std::string host = "127.0.0.1";
  // The gateway's; 0: any free one.
  int http_port = 23333;
  int grpc_port = 23334;
  int admin_port = 23335;
  int metrics_port = 23336;
  std::string device = "auto";  // cpu, auto or cuda: worker i gets GPU i; cuda:K or auto:K: the only worker gets GPU K
  int cores = 1;                // divided among the workers
  int cpu_threads = 0;          // per worker; 0: the worker's share of the cores
  std::string journal;          // of the sessions, shared by the workers
  std::vector<std::string> worker_flags;   // handed to each worker as they are
  std::vector<std::string> gateway_flags;  // and to the gateway
  double drain_seconds = 30;               // that the gateway's requests get when all stops
  int lifeline = -1;                       // a pipe: everything stops when its other end is closed; negative: none
};

// Starts the workers, then the gateway, keeps them alive, and stops them in order on SIGINT, SIGTERM or SIGHUP (unless that is
// ignored): the gateway, then the workers. A second signal kills them. The end of `lifeline` counts as a signal. A program that
// dies is started again on its port, after a pause that grows; one that dies before it was ready for the first time ends
// everything. A worker that has once said that it is alive (the datagram WATCHDOG=1 of systemd's protocol) and then is silent
// for 2 s is killed and started again. What the programs write goes to standard error with their name before each line.
//
// `on_loaded` runs before whenever another percent of the workers' weights is loaded. `on_ready` runs once, when the gateway
// accepts requests and all workers are attached. Returns when all children are gone; the status says what could not be started.
// Thread: the process's main thread, with the signals of BlockServeSignals blocked in all.
absl::Status Serve(const ServeOptions& options, const std::function<void(const ReadyLine&)>& on_ready,
                   const std::function<void(int percent)>& on_loaded);

// Blocks the signals that Serve waits for. Call it before any thread is started.
void BlockServeSignals();

// How many threads worker `index` of `workers` gets from `cores`: shares that differ by at most one, at least 1.
int ShareOfCores(int cores, int workers, int index);

}  // namespace berth::cli
