#include "clients/cli/bench_serve.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/clock.h"
#include "base/status.h"
#include "clients/cli/bench_metrics.h"
#include "grpcpp/alarm.h"
#include "proto/berth/v1/inference.grpc.pb.h"
#include "proto/rpc/channel.h"
#include "proto/rpc/status.h"

namespace berth::cli {
namespace {

constexpr int kFirstOrdinaryId = 3;
constexpr std::chrono::seconds kConnectPatience(20);
constexpr size_t kWarmUp = 64;  // requests of a discarded run

// What the threads of one run share.
struct Run {
  const std::vector<BenchRequest>& requests;
  const std::vector<v1::StreamGenerateRequest> messages;
  std::atomic<size_t> next = 0;  // the request that is handed over next
  const absl::Duration start = base::SystemClock().Monotonic();
  double Now() const { return absl::ToDoubleSeconds(base::SystemClock().Monotonic() - start); }
};

// One stream: what is awaited of it is the tag of the completion queue.
struct Stream {
  size_t request = 0;
  enum class State : uint8_t { kWaiting, kStarting, kReading, kFinishing } state = State::kWaiting;
  grpc::Alarm arrival;
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientAsyncReader<v1::StreamGenerateResponse>> reader;
  v1::StreamGenerateResponse response;
  grpc::Status status;
};

// One thread of a run with its streams.
class StreamReader {
 public:
  StreamReader(Run& run, std::shared_ptr<grpc::Channel> channel, RunTimes& shared)
      : run_(run), stub_(v1::InferenceService::NewStub(std::move(channel))), requests_(shared.requests) {}

  // Keeps `streams` requests running until none is left.
  absl::Status Read(size_t streams) {
    for (size_t i = 0; i < streams; ++i) Begin();
    void* tag = nullptr;
    for (bool ok = false; open_ > 0 && queue_.Next(&tag, &ok);) Advance(static_cast<Stream*>(tag), ok);
    queue_.Shutdown();
    for (bool ok = false; queue_.Next(&tag, &ok);) {
    }
    return failure_;
  }

  RunTimes times;  // gaps, tokens and the end of its own streams

 private:
  void Begin() {
    const size_t request = run_.next++;
    if (request >= run_.requests.size() || !failure_.ok()) return;
    auto* const stream = new Stream{.request = request};
    ++open_;
    const double wait = run_.requests[request].arrival - run_.Now();
    if (wait <= 0) return Start(stream);
    stream->arrival.Set(&queue_,
                        std::chrono::system_clock::now() +
                            std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(wait)),
                        stream);
  }

  void Start(Stream* stream) {
    requests_[stream->request].added = run_.Now();
    stream->state = Stream::State::kStarting;
    stream->reader = stub_->AsyncStreamGenerate(&stream->context, run_.messages[stream->request], &queue_, stream);
  }

  void Advance(Stream* stream, bool ok) {
    switch (stream->state) {
      case Stream::State::kWaiting:
        return Start(stream);
      case Stream::State::kReading:
        if (ok) Note(*stream);
        [[fallthrough]];
      case Stream::State::kStarting:
        stream->state = ok ? Stream::State::kReading : Stream::State::kFinishing;
        if (ok) return stream->reader->Read(&stream->response, stream);
        return stream->reader->Finish(&stream->status, stream);
      case Stream::State::kFinishing:
        failure_.Update(rpc::FromGrpc(stream->status));
        delete stream;
        --open_;
        return Begin();
    }
  }

  void Note(const Stream& stream) {
    const int tokens = stream.response.delta().token_ids_size();
    if (tokens == 0) return;
    const double now = run_.Now();
    RequestTimes& request = requests_[stream.request];
    if (request.tokens == 0) {
      request.first = now;
    } else {
      times.gaps.push_back(now - request.last);
    }
    request.last = now;
    request.tokens += tokens;
    times.tokens.emplace_back(now, tokens);
    times.end = now;
  }

  Run& run_;
  const std::unique_ptr<v1::InferenceService::Stub> stub_;
  std::vector<RequestTimes>& requests_;  // every thread writes to its own streams' entries
  grpc::CompletionQueue queue_;
  size_t open_ = 0;
  absl::Status failure_;
};

class ServedDriver {
 public:
  ServedDriver(const ServeBenchOptions& options, const std::shared_ptr<grpc::ChannelCredentials>& credentials)
      : options_(options) {
    for (int i = 0; i < options.threads; ++i) channels_.push_back(rpc::MakeChannel(options.server, credentials));
  }

  // So that no measured run has to.
  absl::Status Connect() {
    for (const auto& channel : channels_) {
      if (channel->WaitForConnected(std::chrono::system_clock::now() + kConnectPatience)) continue;
      return absl::UnavailableError(
          absl::StrCat("no connection to ", options_.server, " within ", kConnectPatience.count(), " s"));
    }
    return absl::OkStatus();
  }

  // As EngineDriver::Run.
  absl::StatusOr<RunTimes> Measure(const std::vector<BenchRequest>& requests, int in_flight) {
    Run run{.requests = requests, .messages = MakeMessages(requests)};
    RunTimes times;
    times.requests.resize(requests.size());
    std::vector<std::unique_ptr<StreamReader>> readers;
    for (const auto& channel : channels_) readers.push_back(std::make_unique<StreamReader>(run, channel, times));
    const size_t streams = in_flight > 0 ? in_flight : requests.size(), count = readers.size();
    std::vector<absl::Status> ended(count);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < count; ++i) {
      threads.emplace_back([&, i] { ended[i] = readers[i]->Read(streams / count + (i < streams % count ? 1 : 0)); });
    }
    for (std::thread& thread : threads) thread.join();
    for (const absl::Status& status : ended) BERTH_RETURN_IF_ERROR(status);
    for (const auto& reader : readers) Merge(reader->times, times);
    std::sort(times.tokens.begin(), times.tokens.end());
    for (size_t i = 0; i < requests.size(); ++i) {
      if (times.requests[i].tokens == requests[i].output) continue;
      return absl::InternalError(
          absl::StrCat("request ", i, " has ", times.requests[i].tokens, " tokens of output, want ", requests[i].output));
    }
    return times;
  }

 private:
  static void Merge(const RunTimes& part, RunTimes& times) {
    times.gaps.insert(times.gaps.end(), part.gaps.begin(), part.gaps.end());
    times.tokens.insert(times.tokens.end(), part.tokens.begin(), part.tokens.end());
    times.end = std::max(times.end, part.end);
  }

  std::vector<v1::StreamGenerateRequest> MakeMessages(const std::vector<BenchRequest>& requests) {
    std::vector<v1::StreamGenerateRequest> messages(requests.size());
    for (size_t i = 0; i < requests.size(); ++i) {
      v1::GenerationSpec& spec = *messages[i].mutable_generation();
      spec.set_model(options_.model);
      for (int n = 0; n < requests[i].prompt; ++n) {
        spec.mutable_prompt()->mutable_token_ids()->add_ids(
            static_cast<int32_t>(kFirstOrdinaryId + random_() % (options_.vocab - kFirstOrdinaryId)));
      }
      spec.mutable_sampling()->set_temperature(0);
      spec.mutable_stop()->set_max_tokens(requests[i].output);
      spec.mutable_stop()->set_ignore_eos(true);
      spec.mutable_output()->set_token_ids(true);
    }
    return messages;
  }

  const ServeBenchOptions& options_;
  std::vector<std::shared_ptr<grpc::Channel>> channels_;
  std::mt19937 random_{1};
};

}  // namespace

absl::Status ServeBenchOptions::Validate() const {
  if (repeats < 1) return absl::InvalidArgumentError(absl::StrCat("repeats ", repeats, ", want at least 1"));
  if (threads < 1) return absl::InvalidArgumentError(absl::StrCat("threads ", threads, ", want at least 1"));
  if (vocab <= kFirstOrdinaryId) return absl::InvalidArgumentError(absl::StrCat("vocab ", vocab, ", want at least 4"));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<LoadRow>> RunServeBench(const ServeBenchOptions& options,
                                                   const std::function<void(const LoadRow&)>& on_row) {
  BERTH_RETURN_IF_ERROR(options.Validate());
  BERTH_ASSIGN_OR_RETURN(const auto credentials, rpc::MakeChannelCredentials({}));
  ServedDriver driver(options, credentials);
  BERTH_RETURN_IF_ERROR(driver.Connect());
  std::vector<LoadRow> rows;
  for (const BenchLoad& load : options.loads) {
    std::vector<BenchRequest> warm_up = load.requests;
    warm_up.resize(std::min(warm_up.size(), kWarmUp));
    for (BenchRequest& request : warm_up) request.arrival = 0;
    BERTH_RETURN_IF_ERROR(driver.Measure(warm_up, load.in_flight).status());
    std::vector<RunTimes> runs;
    for (int i = 0; i < options.repeats; ++i) {
      BERTH_ASSIGN_OR_RETURN(runs.emplace_back(), driver.Measure(load.requests, load.in_flight));
    }
    rows.push_back({.kind = load.kind, .name = load.name, .figures = LoadFigures(load.requests, runs)});
    if (on_row) on_row(rows.back());
  }
  return rows;
}

}  // namespace berth::cli
