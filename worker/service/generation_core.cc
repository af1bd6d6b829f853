#include "worker/service/generation_core.h"

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/hash.h"
#include "base/status.h"
#include "proto/rpc/status.h"
#include "worker/service/spec_check.h"

namespace berth::service {
namespace {

constexpr absl::Duration kRetryAfter = absl::Milliseconds(100);

absl::Status EndedEarly(v1::FinishReason reason) {
  return reason == v1::FINISH_REASON_DEADLINE ? absl::DeadlineExceededError("the deadline passed before the first step")
                                              : absl::CancelledError("cancelled before the first step");
}

// As vllm:request_success_total counts it.
const char* FinishedReason(const Request& request) {
  const absl::Status& error = request.error;
  if (absl::IsCancelled(error) || absl::IsDeadlineExceeded(error) || rpc::Reason(error) == "DRAINING") return "abort";
  if (!error.ok()) return "error";
  const char* reason = "stop";
  for (const Choice& choice : request.choices) {
    if (choice.reason == v1::FINISH_REASON_LENGTH) reason = "length";
    if (choice.reason == v1::FINISH_REASON_CANCELLED || choice.reason == v1::FINISH_REASON_DEADLINE) reason = "abort";
  }
  return reason;
}

}  // namespace

absl::Status SessionError(const absl::Status& status) {
  const std::string message(status.message());
  const size_t colon = message.find(": ");
  const std::string reason = colon == std::string::npos ? "" : message.substr(0, colon);
  const auto is_reason = [](char c) { return absl::ascii_isupper(c) || c == '_'; };
  if (reason.empty() || !std::all_of(reason.begin(), reason.end(), is_reason)) return status;
  std::vector<std::pair<std::string, std::string>> metadata;
  if (absl::EndsWith(message, "(expired)")) metadata = {{"expired", "true"}};
  return rpc::ErrorWithReason(status.code(), reason, message.substr(colon + 2), std::move(metadata));
}

GenerationCore::GenerationCore(const CoreOptions& options, const Parts& parts)
    : options_(options),
      parts_(parts),
      seeds_(std::random_device{}()),
      heap_trimmer_([&shard = parts.shard](absl::Duration delay,
                                           absl::AnyInvocable<void()> trim) { shard.After(delay, std::move(trim)); },
                    base::TrimHeap) {}

Request* GenerationCore::Submit(Submission submission, RequestSink& sink, uint64_t stream_id) {
  if (submission.spec->request_id().empty()) {
    auto named = std::make_shared<v1::GenerationSpec>(*submission.spec);
    named->set_request_id(absl::StrCat(options_.worker_id, "-", options_.incarnation, "-", next_serial_));
    submission.spec = std::move(named);
  }
  const v1::GenerationSpec& spec = *submission.spec;
  absl::Status admitted = CheckSpec(spec, parts_.model);
  Request* running = admitted.ok() ? Find(submission.tenant, spec.request_id()) : nullptr;
  if (running != nullptr && spec.has_resume()) {
    const uint64_t serial = running->serial;
    TakeOver(*running, spec.resume(), sink, stream_id);
    return FindSerial(serial);
  }
  if (running != nullptr) {
    admitted = rpc::ErrorWithReason(absl::StatusCode::kAlreadyExists, "REQUEST_EXISTS",
                                    absl::StrCat("request \"", spec.request_id(), "\" is running"));
  }
  if (admitted.ok()) admitted = Admit(submission);

  auto owned = std::make_unique<Request>();
  Request& request = *owned;
  request.serial = next_serial_++;
  request.id = spec.request_id();
  if (admitted.ok()) SeeAffinity(submission);
  request.submission = std::move(submission);
  request.sink = &sink;
  request.stream_id = stream_id;
  request.arrived = parts_.clock.Monotonic();
  requests_.emplace(request.serial, std::move(owned));
  heap_trimmer_.SetStreams(requests_.size());
  if (!admitted.ok()) {
    const uint64_t serial = request.serial;
    Fail(request, admitted);
    return FindSerial(serial);
  }
  request.registered = true;
  by_id_[{request.submission.tenant, request.id}] = &request;
  ++preparing_;
  if (request.interactive()) {
    BeginTurn(request);
  } else {
    Prepare(request);
  }
  return &request;
}

uint64_t GenerationCore::AffinityKey(const std::string& tenant, const std::string& session_id) {
  return base::Hash64(session_id, base::Hash64(tenant));
}

std::optional<absl::Duration> GenerationCore::IdleOf(const std::string& tenant, const std::string& session_id) const {
  const absl::Duration* const last = seen_.Find(AffinityKey(tenant, session_id));
  return last == nullptr ? std::nullopt : std::make_optional(parts_.clock.Monotonic() - *last);
}

// A gateway takes the first rank for the session's worker; only the worker itself knows whether it is new.
void GenerationCore::SeeAffinity(Submission& submission) {
  const v1::GenerationSpec& spec = *submission.spec;
  if (spec.session_id().empty() || spec.session().mode() == v1::SESSION_MODE_INTERACTIVE) return;
  if (submission.affinity == v1::AFFINITY_HIT && !IdleOf(submission.tenant, spec.session_id()).has_value()) {
    submission.affinity = v1::AFFINITY_NEW;
  }
  seen_.Set(AffinityKey(submission.tenant, spec.session_id()), parts_.clock.Monotonic());
}

absl::Status GenerationCore::Admit(const Submission& submission) const {
  const bool kept = keep_sessions_ && submission.follow_up();
  absl::Status status = kept ? absl::OkStatus() : refusal_;
  if (status.ok() && requests() >= options_.max_requests) {
    status = rpc::WithRetryAfter(rpc::ErrorWithReason(absl::StatusCode::kResourceExhausted, "OVERLOADED",
                                                      absl::StrCat("the worker has ", requests(), " requests")),
                                 kRetryAfter);
  }
  if (!status.ok()) parts_.metrics.CountRejected();
  return status;
}

void GenerationCore::TakeOver(Request& request, const v1::ResumeFrom& resume, RequestSink& sink, uint64_t stream_id) {
  if (request.sink != nullptr) request.sink->OnTakenOver(request);
  if (!request.parked_by.empty()) parts_.shard.CancelTimer(request.park_timer);
  request.parked_by.clear();
  request.sink = &sink;
  request.stream_id = stream_id;
  std::vector<int> sent(request.choices.size(), 0);
  for (const v1::ResumeFrom::Choice& choice : resume.choices()) {
    if (choice.index() < static_cast<int>(sent.size())) sent[choice.index()] = choice.token_ids_size();
  }
  request.SetSent(sent, resume.prompt_logprobs());
  if (request.has_events()) sink.OnEvents(request);
}

Request* GenerationCore::Find(const std::string& tenant, const std::string& request_id, const std::string& session_id) {
  if (!request_id.empty()) {
    const auto found = by_id_.find({tenant, request_id});
    return found == by_id_.end() ? nullptr : found->second;
  }
  if (session_id.empty()) return nullptr;
  for (const auto& [serial, request] : requests_) {
    if (request->submission.tenant == tenant && request->spec().session_id() == session_id && !request->ended()) {
      return request.get();
    }
  }
  return nullptr;
}

Request* GenerationCore::FindSerial(uint64_t serial) {
  const auto found = requests_.find(serial);
  return found == requests_.end() ? nullptr : found->second.get();
}

void GenerationCore::Release(Request& request) {
  BERTH_CHECK(request.ended()) << "request " << request.id << " was released before its end";
  Erase(request);
}

void GenerationCore::Drop(Request& request) {
  request.sink = nullptr;
  request.parked_by.clear();
  if (request.ended()) {
    Erase(request);
  } else {
    Cancel(request);
  }
}

bool GenerationCore::Cancel(Request& request) {
  if (request.phase == Request::Phase::kCommitting || request.ended()) return false;
  EndUnfinished(request, v1::FINISH_REASON_CANCELLED);
  return true;
}

void GenerationCore::Park(Request& request, const std::string& gateway_id) {
  request.sink = nullptr;
  request.parked_by = gateway_id;
  request.park_timer = parts_.shard.After(options_.park_time, [this, &request] { Drop(request); });
}

absl::StatusOr<Request*> GenerationCore::Reattach(const v1::Reattach& reattach, const std::string& gateway_id,
                                                  RequestSink& sink, uint64_t stream_id) {
  Request* request = Find(reattach.tenant(), reattach.request_id());
  if (request == nullptr || request->parked_by.empty() || request->parked_by != gateway_id) {
    return rpc::ErrorWithReason(absl::StatusCode::kNotFound, "NOT_PARKED",
                                absl::StrCat("no request \"", reattach.request_id(), "\" is parked for gateway ", gateway_id));
  }
  parts_.shard.CancelTimer(request->park_timer);
  request->parked_by.clear();
  request->sink = &sink;
  request->stream_id = stream_id;
  request->SetSent({reattach.received_tokens().begin(), reattach.received_tokens().end()}, reattach.received_prompt_logprobs());
  return request;
}

// `function` may end the request, and others with it.
void GenerationCore::ForEachRequest(absl::FunctionRef<void(Request&)> function) {
  std::vector<uint64_t> serials;
  for (const auto& [serial, request] : requests_) serials.push_back(serial);
  for (const uint64_t serial : serials) {
    if (Request* const request = FindSerial(serial); request != nullptr) function(*request);
  }
}

void GenerationCore::DropParked(const std::string& gateway_id) {
  ForEachRequest([&](Request& request) {
    if (request.parked_by != gateway_id) return;
    parts_.shard.CancelTimer(request.park_timer);
    Drop(request);
  });
}

void GenerationCore::FailAll(const absl::Status& error) {
  ForEachRequest([&](Request& request) {
    if (request.phase == Request::Phase::kCommitting || request.ended()) return;
    const uint64_t serial = request.serial;
    Fail(request, error);
    // A gateway that comes back for a parked one learns as much from its absence.
    Request* const parked = FindSerial(serial);
    if (parked != nullptr && !parked->parked_by.empty()) Erase(*parked);
  });
}

void GenerationCore::WhenIdle(absl::AnyInvocable<void()> callback) {
  if (requests_.empty()) return callback();
  when_idle_.push_back(std::move(callback));
}

// Takes what the engine still computes of the request away from it.
void GenerationCore::StopSequences(Request& request) {
  for (Choice& choice : request.choices) {
    if (choice.sequence == 0) continue;
    parts_.engine.Cancel(choice.sequence);
    sequences_.erase(choice.sequence);
    choice.sequence = 0;
  }
}

// Ends all unfinished choices after what was sent of them (rule 13).
void GenerationCore::EndUnfinished(Request& request, v1::FinishReason reason) {
  StopSequences(request);
  if (!request.started_sent) {
    // Not before its claim is back and released: the session's next turn may follow at once.
    request.error = EndedEarly(reason);
    request.ends_early = true;
    return EndWork(request);
  }
  for (Choice& choice : request.choices) {
    if (choice.finished()) continue;
    choice.output->Truncate(choice.output->sent_tokens());
    choice.reason = reason;
  }
  End(request);
}

void GenerationCore::Fail(Request& request, const absl::Status& error) {
  if (request.claiming) DropWork(request);
  StopSequences(request);
  request.error = error;
  End(request);
}

void GenerationCore::Finalize(Request& request) {
  SetPhase(request, Request::Phase::kEnded);
  request.claiming = false;
  if (!prepared_.empty()) parts_.shard.Post([this] { StartPrepared(); });
  const absl::Duration total = parts_.clock.Monotonic() - request.arrived;
  v1::Finished& finished = request.finished;
  int completion_tokens = 0;
  for (size_t i = 0; i < request.choices.size(); ++i) {
    const Choice& choice = request.choices[i];
    completion_tokens += choice.output->size();
    v1::ChoiceFinished& out = *finished.add_choices();
    out.set_choice_index(static_cast<int32_t>(i));
    const bool calls = choice.reason == v1::FINISH_REASON_STOP_TOKEN && choice.output->has_calls();
    out.set_reason(calls ? v1::FINISH_REASON_TOOL_CALLS : choice.reason);
    out.set_matched_stop(choice.output->matched_stop());
    out.set_completion_tokens(choice.output->size());
  }
  finished.mutable_usage()->set_prompt_tokens(request.prompt_tokens);
  finished.mutable_usage()->set_cached_tokens(request.cached_tokens);
  finished.mutable_usage()->set_completion_tokens(completion_tokens);
  const auto set = [](absl::Duration duration, google::protobuf::Duration* out) {
    if (duration == absl::InfiniteDuration()) return;
    out->set_seconds(absl::IDivDuration(duration, absl::Seconds(1), &duration));
    out->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(duration)));
  };
  const absl::Duration queue = request.started_at - request.arrived;
  set(queue, finished.mutable_timing()->mutable_queue());
  set(request.first_token_at - request.arrived, finished.mutable_timing()->mutable_time_to_first_token());
  set(total, finished.mutable_timing()->mutable_total());
  if (request.registered) {
    const bool generated = request.first_token_at != absl::InfiniteDuration();
    parts_.metrics.RecordRequest(
        {.finished_reason = FinishedReason(request),
         .prompt_tokens = request.prompt_tokens,
         .generated_tokens = completion_tokens,
         .queue = queue,
         .prefill = generated ? request.first_token_at - request.started_at : absl::InfiniteDuration(),
         .decode = generated ? request.last_token_at - request.first_token_at : absl::InfiniteDuration(),
         .total = total});
  }
  if (request.sink != nullptr) {
    request.sink->OnEvents(request);
  } else if (request.parked_by.empty()) {
    Erase(request);
  }
}

void GenerationCore::Erase(Request& request) {
  if (request.registered) by_id_.erase({request.submission.tenant, request.id});
  if (!request.parked_by.empty()) parts_.shard.CancelTimer(request.park_timer);
  requests_.erase(request.serial);
  heap_trimmer_.SetStreams(requests_.size());
  if (!requests_.empty()) return;
  std::vector<absl::AnyInvocable<void()>> callbacks = std::move(when_idle_);
  when_idle_.clear();
  for (absl::AnyInvocable<void()>& callback : callbacks) callback();
}

void GenerationCore::SetPhase(Request& request, Request::Phase phase) {
  const auto prepares = [](const Request& r) {
    return r.registered && (r.phase == Request::Phase::kClaiming || r.phase == Request::Phase::kPreparing);
  };
  preparing_ -= prepares(request);
  request.phase = phase;
  preparing_ += prepares(request);
}

}  // namespace berth::service
