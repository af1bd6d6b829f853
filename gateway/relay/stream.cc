#include "gateway/relay/stream.h"

#include <algorithm>
#include <utility>

#include "absl/random/distributions.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/utf8.h"
#include "proto/rpc/limits.h"
#include "proto/rpc/status.h"

namespace berth::relay {
namespace {

// What a submit may hold besides its prompt.
constexpr size_t kMaxSpecBytes = 1 << 20;

absl::Status CheckName(const char* field, const std::string& name) {
  if (name.size() > rpc::kMaxNameBytes) {
    return rpc::FieldError(field, absl::StrCat("has ", name.size(), " bytes, at most ", rpc::kMaxNameBytes, " are allowed"));
  }
  if (base::IsUtf8(name)) return absl::OkStatus();
  return rpc::FieldError(field, absl::StrCat("is \"", absl::CHexEscape(name), "\", which is not UTF-8"));
}

absl::Status CheckResume(const v1::GenerationSpec& spec) {
  for (int i = 0; i < spec.resume().choices_size(); ++i) {
    if (spec.resume().choices(i).index() != i || i >= spec.sampling().choice_count()) {
      return rpc::FieldError(absl::StrFormat("resume.choices[%d].index", i),
                             absl::StrCat("is ", spec.resume().choices(i).index(), ", want ", i, " of ",
                                          spec.sampling().choice_count(), " choices"));
    }
  }
  return absl::OkStatus();
}

size_t SizeWithoutPrompt(const v1::GenerationSpec& spec) { return spec.ByteSizeLong() - spec.prompt().ByteSizeLong(); }

}  // namespace

absl::Status FixGeneration(v1::GenerationSpec& spec, absl::BitGenRef random, absl::Time now) {
  if (absl::Status status = CheckName("request_id", spec.request_id()); !status.ok()) return status;
  if (absl::Status status = CheckName("session_id", spec.session_id()); !status.ok()) return status;
  if (spec.priority() < -rpc::kMaxPriority || spec.priority() > rpc::kMaxPriority) {
    return rpc::FieldError("priority",
                           absl::StrCat("is ", spec.priority(), ", want ", -rpc::kMaxPriority, " to ", rpc::kMaxPriority));
  }
  if (spec.prompt().kind_case() == v1::Prompt::KIND_NOT_SET) return rpc::FieldError("prompt", "is not set");
  if (spec.session().mode() == v1::SESSION_MODE_INTERACTIVE && spec.session_id().empty()) {
    return rpc::FieldError("session_id", "is empty, an interactive turn needs one");
  }
  if (const size_t bytes = SizeWithoutPrompt(spec); bytes > kMaxSpecBytes) {
    return rpc::FieldError("generation",
                           absl::StrCat("has ", bytes, " bytes besides its prompt, at most ", kMaxSpecBytes, " are allowed"));
  }
  v1::SamplingParams& sampling = *spec.mutable_sampling();
  if (!sampling.has_choice_count()) sampling.set_choice_count(1);
  if (sampling.choice_count() < 1 || sampling.choice_count() > rpc::kMaxChoices) {
    return rpc::FieldError("sampling.choice_count",
                           absl::StrCat("is ", sampling.choice_count(), ", want 1 to ", rpc::kMaxChoices));
  }
  if (absl::Status status = CheckResume(spec); !status.ok()) return status;
  if (!sampling.has_seed()) sampling.set_seed(absl::Uniform<uint64_t>(random));
  if (spec.request_id().empty()) {
    spec.set_request_id(absl::StrFormat("%016x%016x", absl::Uniform<uint64_t>(random), absl::Uniform<uint64_t>(random)));
  }
  if (!spec.has_template_clock()) spec.mutable_template_clock()->set_seconds(absl::ToUnixSeconds(now));
  return absl::OkStatus();
}

absl::Status CheckCancel(const v1::CancelRequest& request) {
  if (request.request_id().empty() && request.session_id().empty()) {
    return rpc::FieldError("request_id", "is empty, and so is session_id");
  }
  if (absl::Status status = CheckName("request_id", request.request_id()); !status.ok()) return status;
  return CheckName("session_id", request.session_id());
}

bool IsFollowUp(const v1::GenerationSpec& spec) {
  return spec.session().mode() == v1::SESSION_MODE_INTERACTIVE && !spec.session().start();
}

GenerationStream::GenerationStream(GenerationRequest request)
    : request_(std::move(request)), outbox_(request_.spec.resume().next_seq()), progress_(request_.spec.resume()) {
  // A caller that resumes by itself has seen a start when it has seen any message.
  resuming_ = request_.spec.has_resume();
  started_ = progress_.next_seq() > 0;
  // A request that is refused has a stream too, until its caller has heard so.
  const int choices = std::min(request_.spec.sampling().choice_count(), rpc::kMaxChoices);
  for (int i = progress_.choices_size(); i < choices; ++i) progress_.add_choices()->set_index(i);
  for (const v1::ResumeFrom::Choice& choice : progress_.choices()) has_tokens_ |= choice.token_ids_size() > 0;
}

absl::Status GenerationStream::OnStarted(const v1::Started& started) {
  if (resuming_ && fingerprint() != 0 && started.model_fingerprint() != fingerprint()) {
    return rpc::ErrorWithReason(absl::StatusCode::kUnavailable, "WORKER_LOST",
                                absl::StrCat("worker ", started.worker_id(), " serves another model than the lost worker"));
  }
  worker_id_ = started.worker_id();
  worker_incarnation_ = started.worker_incarnation();
  affinity_ = started.affinity();
  progress_.set_model_fingerprint(started.model_fingerprint());
  v1::StreamGenerateResponse message;
  if (started_) {
    v1::Resumed& resumed = *message.mutable_resumed();
    resumed.set_worker_id(started.worker_id());
    resumed.set_worker_incarnation(started.worker_incarnation());
    resumed.set_lost_worker_id(lost_worker_);
    int32_t replayed = 0;
    for (const v1::ResumeFrom::Choice& choice : progress_.choices()) replayed += choice.token_ids_size();
    resumed.set_replayed_tokens(replayed);
  } else {
    *message.mutable_started() = started;
  }
  resuming_ = false;
  started_ = true;
  Push(std::move(message));
  return absl::OkStatus();
}

absl::Status GenerationStream::OnDelta(v1::Delta& delta) {
  if (delta.choice_index() < 0 || delta.choice_index() >= progress_.choices_size()) {
    return absl::InternalError(absl::StrCat("worker ", worker_id_, " sent a delta of choice ", delta.choice_index(), " of ",
                                            progress_.choices_size()));
  }
  v1::ResumeFrom::Choice& choice = *progress_.mutable_choices(delta.choice_index());
  if (delta.token_ids_size() > 0) {
    if (delta.first_token_index() != choice.token_ids_size()) {
      return absl::InternalError(absl::StrCat("worker ", worker_id_, " sent tokens from index ", delta.first_token_index(),
                                              ", want ", choice.token_ids_size()));
    }
    choice.mutable_token_ids()->MergeFrom(delta.token_ids());
    has_tokens_ = true;
  }
  if (!request_.spec.output().token_ids()) delta.clear_token_ids();
  progress_.set_prompt_logprobs(progress_.prompt_logprobs() + delta.prompt_logprobs_size());
  if (delta.token_ids().empty() && delta.logprobs().empty() && delta.prompt_logprobs().empty() &&
      delta.content_case() == v1::Delta::CONTENT_NOT_SET) {
    return absl::OkStatus();
  }
  v1::StreamGenerateResponse message;
  *message.mutable_delta() = std::move(delta);
  Push(std::move(message));
  return absl::OkStatus();
}

void GenerationStream::OnFinished(v1::Finished& finished) {
  finished_ = true;
  used_tokens_ = int64_t{finished.usage().prompt_tokens()} + finished.usage().completion_tokens();
  v1::StreamGenerateResponse message;
  *message.mutable_finished() = std::move(finished);
  Push(std::move(message));
  outbox_.End(absl::OkStatus());
}

v1::GenerationSpec GenerationStream::ResumeSpec(const std::string& lost_worker) {
  if (started_) {
    lost_worker_ = lost_worker;
    lost_holders_.push_back(absl::StrCat(lost_worker, "/", worker_incarnation_));
  }
  v1::GenerationSpec spec = request_.spec;
  if (started_ || has_tokens_) {
    resuming_ = true;
    *spec.mutable_resume() = progress_;
    spec.mutable_resume()->set_next_seq(outbox_.end_seq());
  }
  return spec;
}

std::vector<int32_t> GenerationStream::received_tokens() const {
  std::vector<int32_t> counts;
  for (const v1::ResumeFrom::Choice& choice : progress_.choices()) counts.push_back(choice.token_ids_size());
  return counts;
}

int64_t GenerationStream::output_tokens() const {
  int64_t tokens = 0;
  for (const v1::ResumeFrom::Choice& choice : progress_.choices()) tokens += choice.token_ids_size();
  return tokens;
}

void GenerationStream::Push(v1::StreamGenerateResponse message) {
  if (!std::exchange(first_pushed_, true)) message.set_request_id(request_.spec.request_id());
  outbox_.Push(std::move(message));
}

}  // namespace berth::relay
