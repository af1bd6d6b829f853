// GenerationCore's way from a submission to sequences in the engine.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "base/hash.h"
#include "base/status.h"
#include "proto/rpc/status.h"
#include "worker/service/generation_core.h"

namespace berth::service {

void GenerationCore::Prepare(Request& request) {
  SetPhase(request, Request::Phase::kPreparing);
  parts_.pool.Post(
      [this, serial = request.serial, attempt = request.attempt, spec = request.submission.spec, history = request.history] {
        absl::StatusOr<PreparedPrompt> prompt = PreparePrompt(*spec, history.get(), parts_.model);
        parts_.shard.Post(
            [this, serial, attempt, prompt = std::move(prompt)]() mutable { OnPrepared(serial, attempt, std::move(prompt)); });
      });
}

void GenerationCore::OnPrepared(uint64_t serial, int attempt, absl::StatusOr<PreparedPrompt> prompt) {
  Request* request = FindSerial(serial);
  if (request == nullptr || request->phase != Request::Phase::kPreparing || request->attempt != attempt) return;
  if (!prompt.ok()) return FailWork(*request, prompt.status());
  request->prompt = *std::move(prompt);
  if (request->turn.has_value() && request->turn->repeated) return AnswerAgain(*request);
  prepared_.push_back(serial);
  StartPrepared();
}

// In order. A suspect starts when no other prompt is being computed, and nothing else until its own has been (rule 27).
void GenerationCore::StartPrepared() {
  while (!prepared_.empty()) {
    Request* request = FindSerial(prepared_.front());
    if (request != nullptr && request->phase == Request::Phase::kPreparing) {
      const bool waits = std::any_of(requests_.begin(), requests_.end(), [&](const auto& item) {
        const Request& other = *item.second;
        return other.prefilling() && (request->submission.suspect || other.submission.suspect);
      });
      if (waits) return;
      if (const absl::Status status = Start(*request); !status.ok()) FailWork(*request, status);
    }
    prepared_.pop_front();
  }
}

int GenerationCore::MaxTokens(const Request& request) const {
  const int room = std::min(parts_.model.context_length, parts_.engine.limits().max_length) - request.prompt_tokens;
  return request.spec().stop().has_max_tokens() ? std::min(room, request.spec().stop().max_tokens()) : room;
}

std::vector<int32_t> GenerationCore::StopTokens(const Request& request) const {
  const v1::StopCriteria& stop = request.spec().stop();
  std::vector<int32_t> tokens(stop.stop_token_ids().begin(), stop.stop_token_ids().end());
  if (stop.ignore_eos()) return tokens;
  tokens.insert(tokens.end(), parts_.model.eos_ids.begin(), parts_.model.eos_ids.end());
  if (request.prompt.end_token >= 0) tokens.push_back(request.prompt.end_token);
  return tokens;
}

void GenerationCore::FillStarted(Request& request, int prompt_tokens) const {
  v1::Started& started = request.started;
  started.set_worker_id(options_.worker_id);
  started.set_worker_incarnation(options_.incarnation);
  started.set_affinity(request.submission.affinity);
  started.set_prompt_tokens(prompt_tokens);
  started.set_model_fingerprint(parts_.model.fingerprint);
  started.set_model(parts_.model.name);
  if (!request.interactive()) return;
  started.set_session_position(prompt_tokens);
  started.set_history_tokens(request.prompt.from_position);
}

OutputRules GenerationCore::OutputRulesFor(const Request& request, int choice) const {
  OutputRules rules = RulesFor(request.spec());
  if (!request.spec().prompt().has_chat()) return rules;
  const PreparedPrompt& prompt = request.prompt;
  rules.content = {.format = parts_.model.output_format,
                   .opens_reasoning = prompt.opens_reasoning,
                   .opening = prompt.opening,
                   .tool_names = prompt.tool_names,
                   .call_seed = base::HashCombine(base::Hash64(request.id), choice)};
  text::ToolFormat& tools = rules.content.format.tools;
  if (request.spec().prompt().chat().tool_schemas().empty()) tools = text::ToolFormat::kNone;
  rules.skip_special &= !text::MarksAreSpecial(tools);
  return rules;
}

std::unique_ptr<ChoiceOutput> GenerationCore::MakeOutput(const Request& request, const OutputRules& rules) const {
  constexpr size_t kTail = 16;
  absl::Span<const int32_t> tail;
  if (request.prompt.continues_text) {
    tail = request.prompt.tokens;
    tail.remove_prefix(tail.size() - std::min(tail.size(), kTail));
  }
  return std::make_unique<ChoiceOutput>(*parts_.model.tokenizer, rules, tail);
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
  FillStarted(request, request.prompt_tokens);

  const int count = spec.sampling().has_choice_count() ? spec.sampling().choice_count() : 1;
  for (int i = 0; i < count; ++i) {
    request.choices.emplace_back().output = MakeOutput(request, OutputRulesFor(request, i));
  }
  if (spec.output().prompt_logprobs()) {
    request.prompt_scores = PromptScores(*parts_.model.tokenizer, request.prompt.tokens, spec.resume().prompt_logprobs());
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
    sequence.score_prompt = first == 0 && request.prompt_scores.missing();
    choice.sequence = sequence.id;
    if (first == 0) first = sequence.id;
    BERTH_RETURN_IF_ERROR(parts_.engine.Add(std::move(sequence)));
    sequences_[choice.sequence] = {&request, i};
  }
  if (first == 0) {
    request.started_ready = true;
    EndWork(request);
  }
  return absl::OkStatus();
}

// What was generated before another worker was lost counts as output that the caller has. A choice that had ended shows by its
// tokens alone.
void GenerationCore::Replay(Request& request, Choice& choice, const v1::ResumeFrom::Choice& given, int max_tokens) {
  const v1::StopCriteria& stop = request.spec().stop();
  const std::vector<int32_t> stop_tokens = StopTokens(request);
  const int count = given.token_ids_size();
  const bool stopped = count > 0 && count >= std::max(1, stop.min_tokens()) &&
                       std::find(stop_tokens.begin(), stop_tokens.end(), given.token_ids(count - 1)) != stop_tokens.end();
  // The log-probabilities of replayed tokens are never sent again.
  if (choice.output->Append(absl::MakeSpan(given.token_ids().data(), count), {}, stopped)) {
    choice.reason = v1::FINISH_REASON_STOP_STRING;
  } else if (stopped) {
    choice.reason = v1::FINISH_REASON_STOP_TOKEN;
  } else if (count > 0 && count >= max_tokens) {
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
                                .stop_tokens = StopTokens(request),
                                .bad_words = request.prompt.bad_words,
                                .priority = spec.priority(),
                                .cache_salt = base::Hash64(request.submission.tenant)};
  sequence.rope_variant = parts_.model.rope_variant(request.prompt_tokens);
  if (sequence.rope_variant > 0) sequence.cache_salt = base::HashCombine(sequence.cache_salt, sequence.rope_variant);
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
  if (request.prompt.grammar != nullptr) {
    sequence.constraint = MakeConstraint(request.prompt.grammar, *parts_.model.tokenizer, sequence.stop_tokens, output);
  }
  for (const auto& [id, bias] : sampling.logit_bias()) sequence.logit_bias.emplace_back(id, bias);
  if (request.submission.timeout != absl::InfiniteDuration()) {
    sequence.deadline = request.arrived + request.submission.timeout;
  }
  return sequence;
}

}  // namespace berth::service
