// Requests at a fixed rate to a gateway, whatever becomes of those before them: how many end within their deadline, and how
// soon the others are refused. One in forty has a high priority. Prints one line of JSON.
//
//   overload_bench HOST:PORT [requests_per_second = 1280] [seconds = 10] [deadline_seconds = 5] [max_tokens = 50]

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "base/mutex.h"
#include "nlohmann/json.hpp"
#include "proto/berth/v1/inference.grpc.pb.h"
#include "proto/rpc/channel.h"
#include "proto/rpc/client_call.h"
#include "proto/rpc/process.h"
#include "proto/rpc/status.h"

namespace {

using namespace berth;

constexpr int kChannels = 4;

struct Load {
  double rate = 1280, seconds = 10, deadline = 5;
  int max_tokens = 50;
};

struct Figures {
  int sent = 0, ok = 0, without_retry_info = 0;
  std::map<std::string, int> ended;
  std::vector<double> refused_ms;

  void Add(const absl::Status& status, absl::Duration took) {
    ended[status.ok() ? "OK" : absl::StrCat(absl::StatusCodeToString(status.code()), " ", rpc::Reason(status))] += 1;
    ok += status.ok();
    if (!absl::IsResourceExhausted(status)) return;
    refused_ms.push_back(absl::ToDoubleMilliseconds(took));
    without_retry_info += !rpc::RetryAfter(status).has_value();
  }
  nlohmann::json Report(double seconds) {
    std::sort(refused_ms.begin(), refused_ms.end());
    const auto quantile = [&](double q) { return refused_ms.empty() ? 0 : refused_ms[q * (refused_ms.size() - 1)]; };
    return {{"sent", sent},
            {"ok_per_second", ok / seconds},
            {"ended", ended},
            {"without_retry_info", without_retry_info},
            {"refused_p50_ms", quantile(0.5)},
            {"refused_p99_ms", quantile(0.99)}};
  }
};

// Thread: the shard's, but for Wait.
class Generator {
 public:
  Generator(const std::string& address, const Load& load, rpc::Shard& shard) : load_(load), shard_(shard) {
    for (int i = 0; i < kChannels; ++i) {
      stubs_.push_back(
          std::make_unique<v1::InferenceService::Stub>(rpc::MakeChannel(address, grpc::InsecureChannelCredentials())));
    }
  }

  void Tick() {
    if (start_ == absl::InfinitePast()) start_ = absl::Now();
    const double elapsed = absl::ToDoubleSeconds(absl::Now() - start_);
    const int due = static_cast<int>(std::min(elapsed, load_.seconds) * load_.rate);
    while (sent_ < due) Send(sent_++);
    if (elapsed < load_.seconds) {
      shard_.After(absl::Milliseconds(2), [this] { Tick(); });
    } else {
      last_sent_ = true;
      if (open_ == 0) done_.Notify();
    }
  }
  void Wait() { done_.Wait(); }
  nlohmann::json Report() {
    return {{"normal", classes_[0].Report(load_.seconds)}, {"high", classes_[1].Report(load_.seconds)}};
  }

 private:
  void Send(int index) {
    const bool high = index % 40 == 0;
    Figures& figures = classes_[high];
    ++figures.sent;
    ++open_;
    v1::GenerateRequest request;
    v1::GenerationSpec& spec = *request.mutable_generation();
    spec.mutable_prompt()->set_text("once upon a time");
    spec.mutable_stop()->set_max_tokens(load_.max_tokens);
    spec.mutable_stop()->set_ignore_eos(true);
    spec.set_priority(high ? 10 : 0);
    rpc::CallUnary(shard_, *stubs_[index % kChannels], &v1::InferenceService::Stub::PrepareAsyncGenerate, request,
                   {.timeout = absl::Seconds(load_.deadline)},
                   [this, &figures, sent_at = absl::Now()](const absl::Status& status, v1::GenerateResponse&) {
                     figures.Add(status, absl::Now() - sent_at);
                     if (--open_ == 0 && last_sent_) done_.Notify();
                   });
  }

  const Load load_;
  rpc::Shard& shard_;
  std::vector<std::unique_ptr<v1::InferenceService::Stub>> stubs_;
  absl::Time start_ = absl::InfinitePast();
  int sent_ = 0, open_ = 0;
  bool last_sent_ = false;
  Figures classes_[2];
  base::Notification done_;
};

}  // namespace

int main(int argc, char** argv) {
  rpc::InitProcess();
  if (argc < 2) {
    std::fprintf(stderr, "usage: overload_bench HOST:PORT [requests_per_second] [seconds] [deadline_seconds] [max_tokens]\n");
    return 2;
  }
  const auto argument = [&](int index, double otherwise) { return argc > index ? std::atof(argv[index]) : otherwise; };
  const Load load{.rate = argument(2, 1280),
                  .seconds = argument(3, 10),
                  .deadline = argument(4, 5),
                  .max_tokens = static_cast<int>(argument(5, 50))};
  rpc::Shard shard(std::make_unique<grpc::CompletionQueue>());
  Generator generator(argv[1], load, shard);
  shard.Start();
  shard.Post([&] { generator.Tick(); });
  generator.Wait();
  shard.Stop();
  std::printf("%s\n", generator.Report().dump().c_str());
  return 0;
}
