// GenerationCore's way from a submission to sequences in the engine.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "base/status.h"
#include "proto/rpc/status.h"
#include "worker/service/generation_core.h"

namespace berth::service {

void GenerationCore::BeginTurn(Request& request) {
  SetPhase(request, Request::Phase::kClaiming);
  const v1::GenerationSpec& spec = request.spec();
  session::TurnOptions options{.request_id = request.id,
                               .start = spec.session().start(),
                               .replace = spec.session().replace(),
                               .lost_holders = request.submission.lost_holders};
  if (spec.session().has_position()) options.position = spec.session().position();
  const session::SessionKey key{
      .tenant = request.submission.tenant, .model = parts_.model.name, .session_id = spec.session_id()};
  parts_.sessions.BeginTurn(key, std::move(options), [this, serial = request.serial](absl::StatusOr<session::Turn> turn) {
    parts_.shard.Post([this, serial, turn = std::move(turn)]() mutable { OnTurn(serial, std::move(turn)); });
  });
}

void GenerationCore::OnTurn(uint64_t serial, absl::StatusOr<session::Turn> turn) {
  Request* request = FindSerial(serial);
  if (request == nullptr || request->phase != Request::Phase::kClaiming) {
    if (turn.ok()) parts_.sessions.AbandonTurn(*turn);
    return;
  }
  if (!turn.ok()) return Fail(*request, SessionError(turn.status()));
  request->turn = *std::move(turn);
  if (request->turn->repeated) {
    AnswerAgain(*request);
  } else {
    Prepare(*request);
  }
}

// The session's last committed turn once more (rule 14).
void GenerationCore::AnswerAgain(Request& request) {
  const session::History& history = *request.turn->history;
  request.prompt_tokens = static_cast<int>(history.last_output_begin);
  request.started.set_worker_id(options_.worker_id);
  request.started.set_worker_incarnation(options_.incarnation);
  request.started.set_affinity(request.submission.affinity);
  request.started.set_prompt_tokens(request.prompt_tokens);
  request.started.set_session_position(history.last_output_begin);
  request.started.set_model_fingerprint(parts_.model.fingerprint);
  request.started.set_model(parts_.model.name);
  request.started_ready = true;
  const v1::GenerationSpec& spec = request.spec();
  Choice& choice = request.choices.emplace_back();
  choice.output = std::make_unique<ChoiceOutput>(
      *parts_.model.tokenizer,
      OutputRules{.skip_special = !spec.output().has_skip_special_tokens() || spec.output().skip_special_tokens(),
                  .include_stop = spec.stop().include_stop_string(),
                  .stop_strings = {spec.stop().stop_strings().begin(), spec.stop().stop_strings().end()}},
      absl::Span<const int32_t>());
  choice.reason = static_cast<v1::FinishReason>(history.last_finish_reason);
  const absl::Span<const int32_t> output = absl::MakeSpan(history.tokens).subspan(history.last_output_begin);
  if (!choice.output->Append(output, {}, choice.reason == v1::FINISH_REASON_STOP_TOKEN)) choice.output->Finish();
  request.finished.set_session_position(static_cast<int64_t>(history.tokens.size()));
  parts_.sessions.AbandonTurn(*request.turn);
  request.turn.reset();
  Finalize(request);
}

void GenerationCore::Prepare(Request& request) {
  SetPhase(request, Request::Phase::kPreparing);
  parts_.pool.Post([this, serial = request.serial, spec = request.submission.spec,
                    history = request.turn.has_value() ? request.turn->history : nullptr]() mutable {
    absl::StatusOr<PreparedPrompt> prompt = PreparePrompt(*spec, history.get(), parts_.model);
    parts_.shard.Post([this, serial, prompt = std::move(prompt)]() mutable { OnPrepared(serial, std::move(prompt)); });
  });
}

void GenerationCore::OnPrepared(uint64_t serial, absl::StatusOr<PreparedPrompt> prompt) {
  Request* request = FindSerial(serial);
  if (request == nullptr || request->phase != Request::Phase::kPreparing) return;
  absl::Status status = prompt.status();
  if (status.ok()) {
    request->prompt = *std::move(prompt);
    status = Start(*request);
  }
  if (!status.ok()) Fail(*request, status);
}

int GenerationCore::MaxTokens(const Request& request) const {
  const int room = std::min(parts_.model.context_length, parts_.engine.limits().max_length) - request.prompt_tokens;
  return request.spec().stop().has_max_tokens() ? std::min(room, request.spec().stop().max_tokens()) : room;
}

std::vector<int32_t> GenerationCore::StopTokens(const v1::StopCriteria& stop) const {
  std::vector<int32_t> tokens(stop.stop_token_ids().begin(), stop.stop_token_ids().end());
  if (!stop.ignore_eos()) tokens.insert(tokens.end(), parts_.model.eos_ids.begin(), parts_.model.eos_ids.end());
  return tokens;
}

absl::Status GenerationCore::Start(Request& request) {
  SetPhase(request, Request::Phase::kRunning);
  const v1::GenerationSpec& spec = request.spec();
  request.prompt_tokens = static_cast<int>(request.prompt.tokens.size());
  const int limit = std::min(parts_.model.context_length, parts_.engine.limits().max_length);
  if (request.prompt_tokens >= limit) {
    return rpc::ErrorWithReason(
        absl::StatusCode::kInvalidArgument, "CONTEXT_LENGTH_EXCEEDED",
        absl::StrCat("prompt: has ", request.prompt_tokens, " tokens, the context holds ", limit, " with the output"),
        {{"max", absl::StrCat(limit)}, {"got", absl::StrCat(request.prompt_tokens)}});
  }
  request.started.set_worker_id(options_.worker_id);
  request.started.set_worker_incarnation(options_.incarnation);
  request.started.set_affinity(request.submission.affinity);
  request.started.set_prompt_tokens(request.prompt_tokens);
  request.started.set_model_fingerprint(parts_.model.fingerprint);
  request.started.set_model(parts_.model.name);
  if (request.turn.has_value()) request.started.set_session_position(request.prompt_tokens);

  const OutputRules rules{.skip_special = !spec.output().has_skip_special_tokens() || spec.output().skip_special_tokens(),
                          .include_stop = spec.stop().include_stop_string(),
                          .logprobs = spec.output().has_top_logprobs(),
                          .stop_strings = {spec.stop().stop_strings().begin(), spec.stop().stop_strings().end()}};
  constexpr size_t kTail = 16;
  absl::Span<const int32_t> tail;
  if (request.prompt.continues_text) {
    tail = request.prompt.tokens;
    tail.remove_prefix(tail.size() - std::min(tail.size(), kTail));
  }
  const int count = spec.sampling().has_choice_count() ? spec.sampling().choice_count() : 1;
  for (int i = 0; i < count; ++i) {
    request.choices.emplace_back().output = std::make_unique<ChoiceOutput>(*parts_.model.tokenizer, rules, tail);
  }
  const int max_tokens = MaxTokens(request);
  for (const v1::ResumeFrom::Choice& given : spec.resume().choices()) {
    Replay(request, request.choices[given.index()], given, max_tokens);
  }
  engine::SequenceId first = 0;
  for (int i = 0; i < count; ++i) {
    Choice& choice = request.choices[i];
    if (choice.finished()) continue;
    engine::SequenceSpec sequence = MakeSequence(request, i, max_tokens);
    sequence.share_prompt_of = first;
    choice.sequence = sequence.id;
    if (first == 0) first = sequence.id;
    BERTH_RETURN_IF_ERROR(parts_.engine.Add(std::move(sequence)));
    sequences_[choice.sequence] = {&request, i};
  }
  if (first == 0) {
    request.started_ready = true;
    End(request);
  }
  return absl::OkStatus();
}

// What was generated before another worker was lost counts as output that the caller has. A choice that had ended shows by its
// tokens alone.
void GenerationCore::Replay(Request& request, Choice& choice, const v1::ResumeFrom::Choice& given, int max_tokens) {
  const v1::StopCriteria& stop = request.spec().stop();
  const std::vector<int32_t> stop_tokens = StopTokens(stop);
  const int count = given.token_ids_size();
  const bool stopped = count > 0 && count >= std::max(1, stop.min_tokens()) &&
                       std::find(stop_tokens.begin(), stop_tokens.end(), given.token_ids(count - 1)) != stop_tokens.end();
  // The log-probabilities of replayed tokens are never sent again.
  if (choice.output->Append(absl::MakeSpan(given.token_ids().data(), count), {}, stopped)) {
    choice.reason = v1::FINISH_REASON_STOP_STRING;
  } else if (stopped) {
    choice.reason = v1::FINISH_REASON_STOP_TOKEN;
  } else if (count >= max_tokens) {
    choice.reason = v1::FINISH_REASON_LENGTH;
  } else if (given.finished()) {
    choice.reason = given.finish_reason();
  }
  if (choice.finished() && choice.reason != v1::FINISH_REASON_STOP_STRING) choice.output->Finish();
  choice.output->SetSent(count);
}

engine::SequenceSpec GenerationCore::MakeSequence(const Request& request, int index, int max_tokens) {
  const v1::GenerationSpec& spec = request.spec();
  const v1::SamplingParams& sampling = spec.sampling();
  const SamplingDefaults& defaults = parts_.model.defaults;
  engine::SequenceSpec sequence{.id = next_sequence_++,
                                .tokens = request.prompt.tokens,
                                .prompt_length = request.prompt_tokens,
                                .max_tokens = max_tokens,
                                .min_tokens = spec.stop().min_tokens(),
                                .stop_tokens = StopTokens(spec.stop()),
                                .bad_words = request.prompt.bad_words,
                                .priority = spec.priority(),
                                .cache_salt = base::Hash64(request.submission.tenant)};
  const std::vector<int32_t>& output = request.choices[index].output->tokens();
  sequence.tokens.insert(sequence.tokens.end(), output.begin(), output.end());
  sequence.sampling = {
      .temperature = sampling.has_temperature() ? sampling.temperature() : defaults.temperature,
      .top_p = sampling.has_top_p() ? sampling.top_p() : defaults.top_p,
      .min_p = sampling.min_p(),
      .top_k = sampling.has_top_k() ? sampling.top_k() : defaults.top_k,
      .repetition_penalty = sampling.has_repetition_penalty() ? sampling.repetition_penalty() : defaults.repetition_penalty,
      .presence_penalty = sampling.presence_penalty(),
      .frequency_penalty = sampling.frequency_penalty(),
      .logprobs = spec.output().has_top_logprobs() ? spec.output().top_logprobs() : -1,
      .seed = sampling.has_seed() ? sampling.seed() : seeds_(),
      .choice = index};
  for (const auto& [id, bias] : sampling.logit_bias()) sequence.logit_bias.emplace_back(id, bias);
  if (request.submission.timeout != absl::InfiniteDuration()) {
    sequence.deadline = request.arrived + request.submission.timeout;
  }
  return sequence;
}

}  // namespace berth::service
