#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/support/sync_stream.h"
#include "gtest/gtest.h"
#include "proto/berth/v1/admin.grpc.pb.h"
#include "proto/berth/v1/inference.grpc.pb.h"
#include "proto/berth/v1/model.grpc.pb.h"
#include "proto/berth/v1/session.grpc.pb.h"
#include "proto/berth/v1/worker.grpc.pb.h"
#include "proto/rpc/channel.h"
#include "proto/rpc/status.h"
#include "worker/worker.h"

namespace berth::testing {

// What a stream came to.
struct Outcome {
  std::map<int, std::string> text;
  std::map<int, std::vector<int32_t>> tokens;
  std::map<int, int> logprobs;  // how many
  int prompt_logprobs = 0;      // how many
  v1::Started started;
  bool has_started = false;
  v1::Finished finished;
  bool has_finished = false;
  absl::Status error;
  bool reattached = false;
  int deltas = 0;
  bool over() const { return has_finished || !error.ok(); }

  void Add(const v1::Delta& delta) {
    const int choice = delta.choice_index();
    EXPECT_EQ(delta.first_token_index(), static_cast<int>(tokens[choice].size()) + skipped[choice])
        << "a hole in choice " << choice;
    tokens[choice].insert(tokens[choice].end(), delta.token_ids().begin(), delta.token_ids().end());
    text[choice] += delta.text();
    logprobs[choice] += delta.logprobs_size();
    prompt_logprobs += delta.prompt_logprobs_size();
    ++deltas;
  }
  std::map<int, int> skipped;  // tokens of an earlier attempt
};

// A worker with the simulated engine in this process, on loopback, spoken to with gRPC's synchronous API.
class TestWorker {
 public:
  static worker::WorkerOptions Options() {
    worker::WorkerOptions options{.serve_callers = true, .log_level = "error", .shutdown_grace_seconds = 0};
    options.sim = {.enabled = true, .step_ms = 1, .slots = 16, .kv_blocks = 512, .max_length = 4096};
    return options;
  }
  explicit TestWorker(const worker::WorkerOptions& options = Options()) {
    auto started = worker::Worker::Start(options, [] {});
    EXPECT_TRUE(started.ok()) << started.status();
    worker = *std::move(started);
    const std::string line = worker->ReadyLine();
    port = std::stoi(Port(line, "\"port\":"));
    channel = rpc::MakeChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials());
    admin_channel = rpc::MakeChannel("127.0.0.1:" + Port(line, "\"admin_port\":"), grpc::InsecureChannelCredentials());
    inference = std::make_unique<v1::InferenceService::Stub>(channel);
    sessions = std::make_unique<v1::SessionService::Stub>(channel);
    models = std::make_unique<v1::ModelService::Stub>(channel);
    workers = std::make_unique<v1::WorkerService::Stub>(channel);
    admin = std::make_unique<v1::AdminService::Stub>(admin_channel);
  }

  v1::LoadReport Load() { return Info().load(); }
  v1::GetWorkerInfoResponse Info() {
    grpc::ClientContext context;
    v1::GetWorkerInfoResponse response;
    const grpc::Status status = workers->GetWorkerInfo(&context, {}, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  Outcome Stream(const v1::GenerationSpec& spec, absl::Duration timeout = absl::Seconds(30)) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
    v1::StreamGenerateRequest request;
    *request.mutable_generation() = spec;
    auto reader = inference->StreamGenerate(&context, request);
    Outcome outcome;
    for (const v1::ResumeFrom::Choice& choice : spec.resume().choices())
      outcome.skipped[choice.index()] = choice.token_ids_size();
    v1::StreamGenerateResponse response;
    for (uint64_t seq = spec.resume().next_seq(); reader->Read(&response); ++seq) {
      EXPECT_EQ(response.seq(), seq);
      if (response.has_started()) {
        outcome.started = response.started();
        outcome.has_started = true;
      } else if (response.has_delta()) {
        outcome.Add(response.delta());
      } else {
        outcome.finished = response.finished();
        outcome.has_finished = true;
      }
    }
    outcome.error = rpc::FromGrpc(reader->Finish());
    return outcome;
  }

  std::unique_ptr<worker::Worker> worker;
  int port = 0;
  std::shared_ptr<grpc::Channel> channel, admin_channel;
  std::unique_ptr<v1::InferenceService::Stub> inference;
  std::unique_ptr<v1::SessionService::Stub> sessions;
  std::unique_ptr<v1::ModelService::Stub> models;
  std::unique_ptr<v1::WorkerService::Stub> workers;
  std::unique_ptr<v1::AdminService::Stub> admin;

 private:
  static std::string Port(const std::string& line, const std::string& key) {
    const size_t begin = line.find(key) + key.size();
    return line.substr(begin, line.find_first_of(",}", begin) - begin);
  }
};

// A gateway's end of a link.
class TestLink {
 public:
  TestLink(TestWorker& worker, const std::string& gateway_id, uint64_t epoch = 1) {
    v1::GatewayHello hello;
    hello.set_gateway_id(gateway_id);
    hello.set_epoch(epoch);
    Open(worker, hello);
  }
  TestLink(TestWorker& worker, const v1::GatewayHello& hello) { Open(worker, hello); }
  ~TestLink() {
    Break();
    if (!ended) stream->Finish();
  }

  void Open(TestWorker& worker, const v1::GatewayHello& hello) {
    context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(60)));
    stream = worker.workers->Attach(&context);
    v1::AttachRequest request;
    *request.mutable_hello() = hello;
    stream->Write(request);
  }
  void Break() { context.TryCancel(); }
  void Send(const v1::AttachRequest& request) { EXPECT_TRUE(stream->Write(request)); }
  void Submit(uint64_t id, const v1::GenerationSpec& spec, absl::Duration timeout = absl::InfiniteDuration()) {
    v1::AttachRequest request;
    v1::Submit& submit = *request.add_submits();
    submit.set_stream_id(id);
    submit.set_tenant("tenant");
    *submit.mutable_generation() = spec;
    if (timeout != absl::InfiniteDuration())
      submit.mutable_timeout()->set_nanos(static_cast<int>(absl::ToInt64Nanoseconds(timeout)));
    for (const v1::ResumeFrom::Choice& choice : spec.resume().choices())
      streams[id].skipped[choice.index()] = choice.token_ids_size();
    Send(request);
  }
  void Cancel(uint64_t id, const std::string& request_id) {
    v1::AttachRequest request;
    request.add_cancels()->set_stream_id(id);
    request.mutable_cancels(0)->set_request_id(request_id);
    request.mutable_cancels(0)->set_tenant("tenant");
    Send(request);
  }
  // A link that has ended meanwhile takes none; the next read tells.
  void Acknowledge() {
    v1::AttachRequest request;
    request.set_acknowledged_frame(frame.frame());
    stream->Write(request);
  }

  // Reads the next frame into `frame` and its events into `streams`. False when the link is over.
  bool Next() {
    const uint64_t last = frame.frame();
    if (!stream->Read(&frame)) return false;
    EXPECT_EQ(frame.frame(), last + 1);
    if (frame.has_hello()) hello = frame.hello();
    for (const v1::StreamEvent& event : frame.events()) {
      Outcome& outcome = streams[event.stream_id()];
      if (event.has_started()) {
        outcome.started = event.started();
        outcome.has_started = true;
      } else if (event.has_delta()) {
        outcome.Add(event.delta());
      } else if (event.has_finished()) {
        outcome.finished = event.finished();
        outcome.has_finished = true;
      } else if (event.has_error()) {
        outcome.error = rpc::FromProto(event.error());
      } else if (event.has_reattached()) {
        outcome.reattached = true;
      } else {
        answers.push_back(event.cancel_answer());
      }
    }
    if (acknowledge && frame.events_size() > 0) Acknowledge();
    return true;
  }
  // Reads until `condition` holds. False when the link ended before.
  template <typename Condition>
  bool Until(const Condition& condition) {
    while (!condition()) {
      if (!Next()) return false;
    }
    return true;
  }
  Outcome& Await(uint64_t id) {
    EXPECT_TRUE(Until([&] { return streams[id].over(); })) << "the link ended before stream " << id;
    return streams[id];
  }
  // The end of a link that the worker closed.
  absl::Status End() {
    while (Next()) {
    }
    ended = true;
    return rpc::FromGrpc(stream->Finish());
  }

  bool ended = false;
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReaderWriter<v1::AttachRequest, v1::AttachResponse>> stream;
  bool acknowledge = true;
  v1::AttachResponse frame;
  v1::WorkerHello hello;
  std::map<uint64_t, Outcome> streams;
  std::vector<v1::CancelAnswer> answers;
};

inline v1::GenerationSpec ChatSpec(const std::string& request_id, const std::string& text, int max_tokens, uint64_t seed = 1) {
  v1::GenerationSpec spec;
  spec.set_request_id(request_id);
  v1::ChatMessage& message = *spec.mutable_prompt()->mutable_chat()->add_messages();
  message.set_role("user");
  message.set_content(text);
  spec.mutable_sampling()->set_seed(seed);
  spec.mutable_stop()->set_max_tokens(max_tokens);
  spec.mutable_output()->set_token_ids(true);
  return spec;
}

}  // namespace berth::testing
