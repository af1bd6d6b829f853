// Generations on one or more targets in turn, at a fixed rate whatever becomes of those before them, or so many at once; what
// is sent in the warm-up does not count. Prints one line of JSON per target.
//
//   load_bench HOST:PORT[,HOST:PORT...]... [rate=1280] [streams=0] [seconds=10] [warm_up=5] [deadline=0] [tokens=50]
//              [high_every=0] [channels=4] [cancel_after=0] [slow_readers=0] [top_logprobs=-1] [tls=FOLDER]
//
// A target is a cluster's gateways, or a worker that serves callers. `streams`: so many open at once, instead of a rate, for
// the whole time. `deadline`: seconds of each request; 0: none. `high_every`: one in so many has a high priority.
// `cancel_after`: the caller leaves after so many tokens. `slow_readers`: so many more callers of the first target, who read
// one message a second. `top_logprobs`: so many alternatives per token; -1: no log-probabilities. `tls`: a folder with ca.crt,
// tls.crt and tls.key, of which the last two are shown to servers.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/mutex.h"
#include "clients/cpp/async_client.h"
#include "clients/cpp/client.h"
#include "nlohmann/json.hpp"
#include "proto/rpc/process.h"
#include "proto/rpc/status.h"

namespace {

using namespace berth;

struct Load {
  std::map<std::string, double> values = {{"rate", 1280},      {"streams", 0},      {"seconds", 10},     {"warm_up", 5},
                                          {"deadline", 0},     {"tokens", 50},      {"high_every", 0},   {"channels", 4},
                                          {"cancel_after", 0}, {"slow_readers", 0}, {"top_logprobs", -1}};
  rpc::TlsOptions tls;
  double operator[](const char* name) const { return values.at(name); }
};

double Quantile(std::vector<double>& values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
}

// Of one class of requests.
struct Figures {
  int sent = 0, ok = 0, without_retry_info = 0;
  int64_t tokens = 0;
  std::map<std::string, int> ended;
  std::vector<double> first_us, gap_us, refused_ms;

  void Add(const absl::Status& status, absl::Duration took) {
    ended[status.ok() ? "OK" : absl::StrCat(absl::StatusCodeToString(status.code()), " ", rpc::Reason(status))] += 1;
    ok += status.ok();
    if (!absl::IsResourceExhausted(status)) return;
    refused_ms.push_back(absl::ToDoubleMilliseconds(took));
    without_retry_info += !rpc::RetryAfter(status).has_value();
  }
  nlohmann::json Report(double seconds) {
    return {{"sent", sent},
            {"ok_per_second", ok / seconds},
            {"tokens", tokens},
            {"ended", ended},
            {"first_message_p50_us", Quantile(first_us, 0.5)},
            {"first_message_p99_us", Quantile(first_us, 0.99)},
            {"token_gap_p50_us", Quantile(gap_us, 0.5)},
            {"token_gap_p99_us", Quantile(gap_us, 0.99)},
            {"refused_p50_ms", Quantile(refused_ms, 0.5)},
            {"refused_p99_ms", Quantile(refused_ms, 0.99)},
            {"without_retry_info", without_retry_info}};
  }
};

struct Target {
  std::unique_ptr<client::AsyncClient> client;
  Figures normal, high;
};

// Thread: the shard's, but for Run.
class Generator {
 public:
  Generator(const std::vector<std::string>& targets, const Load& load, rpc::Shard& shard) : load_(load), shard_(shard) {
    const client::RetryOptions once{.attempts = 1};
    for (const std::string& addresses : targets) {
      client::ClientOptions options{.tls = load.tls, .retry = once};
      for (int i = 0; i < load["channels"]; ++i) {
        for (absl::string_view address : absl::StrSplit(addresses, ',')) options.gateways.emplace_back(address);
      }
      targets_.push_back({.client = std::make_unique<client::AsyncClient>(*client::Gateways::Make(options), once, shard)});
    }
  }

  // Until all has ended. Requests are sent one by one, evenly: two at once, to two targets in turn, would wait for each other.
  void Run() {
    const absl::Duration period = absl::Seconds(1) / std::max(load_["rate"], 1.0);
    for (absl::Time next = absl::Now(); !done_.WaitFor(next - absl::Now()); next += period) shard_.Post([this] { Tick(); });
  }
  void Report() {
    for (Target& target : targets_) {
      nlohmann::json report = {{"normal", target.normal.Report(load_["seconds"])}};
      if (load_["high_every"] > 0) report["high"] = target.high.Report(load_["seconds"]);
      std::printf("%s\n", report.dump().c_str());
    }
  }

 private:
  void Tick() {
    if (last_sent_) return;
    const absl::Time now = absl::Now();
    if (start_ == absl::InfinitePast()) start_ = now;
    const double elapsed = absl::ToDoubleSeconds(now - start_), end = load_["warm_up"] + load_["seconds"];
    counts_ = elapsed >= load_["warm_up"];
    const double due = load_["streams"] > 0 ? load_["streams"] : std::min(elapsed, end) * load_["rate"] + 0.5;
    while (sent_ < static_cast<int>(due)) Send(sent_++);
    if (elapsed < end) return;
    last_sent_ = true;
    counts_ = counts_ && load_["streams"] == 0;
    if (load_["streams"] > 0) {
      for (auto& [id, call] : open_) call->Cancel();
    }
    if (open_.empty()) done_.Notify();
  }
  void Send(int index) {
    Target& target = targets_[index % targets_.size()];
    const bool high = load_["high_every"] > 0 && index % static_cast<int>(load_["high_every"]) == 0;
    Figures& figures = high ? target.high : target.normal;
    const bool counts = counts_;
    figures.sent += counts;
    v1::GenerationSpec spec;
    spec.mutable_prompt()->set_text("once upon a time");
    spec.mutable_stop()->set_max_tokens(static_cast<int>(load_["tokens"]));
    spec.mutable_stop()->set_ignore_eos(true);
    spec.mutable_output()->set_token_ids(true);
    if (load_["top_logprobs"] >= 0) spec.mutable_output()->set_top_logprobs(static_cast<int>(load_["top_logprobs"]));
    spec.set_priority(high ? 10 : 0);
    open_[index] = target.client->Start(
        std::move(spec), load_["deadline"] > 0 ? absl::Seconds(load_["deadline"]) : absl::InfiniteDuration(),
        [this, &figures, counts, index, got = 0, at = absl::Now(), last = absl::InfinitePast()](const auto& message) mutable {
          const absl::Time now = absl::Now();
          if (last == absl::InfinitePast() && counts) figures.first_us.push_back(absl::ToDoubleMicroseconds(now - at));
          if (got > 0 && counts_) figures.gap_us.push_back(absl::ToDoubleMicroseconds(now - last));
          last = now;
          if (counts_) figures.tokens += message.delta().token_ids_size();
          got += message.delta().token_ids_size();
          if (load_["cancel_after"] > 0 && got >= load_["cancel_after"]) open_.at(index)->Cancel();
        },
        [this, &figures, counts, index, at = absl::Now()](const absl::Status& status) {
          if (counts) figures.Add(status, absl::Now() - at);
          open_.erase(index);
          if (open_.empty() && last_sent_) done_.Notify();
        });
  }

  const Load load_;
  rpc::Shard& shard_;
  std::vector<Target> targets_;
  absl::Time start_ = absl::InfinitePast();
  int sent_ = 0;
  bool counts_ = false, last_sent_ = false;
  std::map<int, std::shared_ptr<client::AsyncClient::Call>> open_;
  base::Notification done_;
};

// Callers who read one message a second until they are destroyed.
class SlowReaders {
 public:
  SlowReaders(const std::string& gateways, int count) {
    for (int i = 0; i < count; ++i) {
      clients_.push_back(*client::Client::Make({.gateways = absl::StrSplit(gateways, ','), .retry = {.attempts = 1}}));
      threads_.emplace_back([this, i, client = clients_.back().get()] {
        v1::GenerationSpec spec;
        spec.set_request_id(absl::StrCat("slow-", i));
        spec.mutable_prompt()->set_text("once upon a time");
        spec.mutable_stop()->set_max_tokens(100000);
        do {  // also when it was given up
          (void)client->Generate(spec, [&](const auto&) {
            if (over_.WaitFor(absl::Seconds(1))) client->Abandon(spec.request_id());
          });
        } while (!over_.WaitFor(absl::Seconds(1)));
      });
    }
  }
  ~SlowReaders() {
    over_.Notify();
    for (size_t i = 0; i < clients_.size(); ++i) clients_[i]->Abandon(absl::StrCat("slow-", i));
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  base::Notification over_;
  std::vector<std::unique_ptr<client::Client>> clients_;
  std::vector<std::thread> threads_;
};

}  // namespace

int main(int argc, char** argv) {
  rpc::InitProcess();
  Load load;
  std::vector<std::string> targets;
  for (int i = 1; i < argc; ++i) {
    const std::pair<std::string, std::string> pair = absl::StrSplit(argv[i], absl::MaxSplits('=', 1));
    const auto value = load.values.find(pair.first);
    if (pair.first == "tls") {
      const std::string& folder = pair.second;
      load.tls = {.cert_file = folder + "/tls.crt", .key_file = folder + "/tls.key", .ca_file = folder + "/ca.crt"};
    } else if (value == load.values.end()) {
      targets.emplace_back(argv[i]);
    } else if (!absl::SimpleAtod(pair.second, &value->second) || value->second < 0) {
      std::fprintf(stderr, "load_bench: %s, want a number\n", argv[i]);
      return 2;
    }
  }
  if (targets.empty()) {
    std::fprintf(stderr, "usage: load_bench HOST:PORT[,HOST:PORT...]... [NAME=NUMBER]...; see load_bench.cc\n");
    return 2;
  }
  const SlowReaders slow(targets[0], static_cast<int>(load["slow_readers"]));
  rpc::Shard shard(std::make_unique<grpc::CompletionQueue>());
  Generator generator(targets, load, shard);
  shard.Start();
  generator.Run();
  shard.Stop();
  generator.Report();
  return 0;
}
