// GenerationCore's interactive turns: their claims, and their commits.

#include <algorithm>

#include "base/check.h"
#include "worker/service/generation_core.h"

namespace berth::service {
namespace {

// What the last turn, that of `prompt`, went on from.
std::shared_ptr<const session::History> BeforeLastTurn(const session::History& history, const v1::Prompt& prompt) {
  const size_t added = prompt.has_chat() ? prompt.chat().messages_size() : 1;
  const size_t kept = history.messages.size() - std::min(history.messages.size(), added + 1);
  auto before = std::make_shared<session::History>();
  before->messages.assign(history.messages.begin(), history.messages.begin() + static_cast<ptrdiff_t>(kept));
  if (kept > 0) before->tokens.assign(history.tokens.begin(), history.tokens.begin() + before->messages.back().end);
  return before;
}

}  // namespace

// Work begins at once on this worker's copy of the session, if there is one that no turn is about to change.
void GenerationCore::BeginTurn(Request& request) {
  const v1::GenerationSpec& spec = request.spec();
  session::TurnOptions options{.request_id = request.id,
                               .start = spec.session().start(),
                               .replace = spec.session().replace(),
                               .lost_holders = request.submission.lost_holders};
  if (spec.session().has_position()) options.position = spec.session().position();
  const session::SessionKey key{
      .tenant = request.submission.tenant, .model = parts_.model.name, .session_id = spec.session_id()};
  const bool busy = std::any_of(requests_.begin(), requests_.end(), [&](const auto& item) {
    const Request& other = *item.second;
    return &other != &request && !other.ended() && other.interactive() && other.submission.tenant == key.tenant &&
           other.spec().session_id() == key.session_id;
  });
  if (!busy) request.history = parts_.sessions.Assume(key, options);
  request.claiming = true;
  SetPhase(request, Request::Phase::kClaiming);
  parts_.sessions.BeginTurn(key, std::move(options), [this, serial = request.serial](absl::StatusOr<session::Turn> turn) {
    parts_.shard.Post([this, serial, turn = std::move(turn)]() mutable { OnTurn(serial, std::move(turn)); });
  });
  if (request.history != nullptr) Prepare(request);
}

void GenerationCore::OnTurn(uint64_t serial, absl::StatusOr<session::Turn> turn) {
  Request* request = FindSerial(serial);
  if (request == nullptr || !request->claiming) {
    if (turn.ok()) parts_.sessions.AbandonTurn(*turn);
    return;
  }
  if (request->ends_early || !turn.ok()) {
    const absl::Status error = request->ends_early ? request->error : SessionError(turn.status());
    if (turn.ok()) request->turn = *std::move(turn);
    return Fail(*request, error);
  }
  request->claiming = false;
  request->turn = *std::move(turn);
  const bool assumed_right =
      request->history != nullptr && !request->turn->repeated && request->history->version == request->turn->history->version;
  if (assumed_right) return GoOn(*request);
  DropWork(*request);
  const session::Turn& claimed = *request->turn;
  request->history = claimed.repeated ? BeforeLastTurn(*claimed.history, request->spec().prompt()) : claimed.history;
  Prepare(*request);
}

// The claim is back and the work that began before it stands.
void GenerationCore::GoOn(Request& request) {
  if (request.first_token_at != absl::InfiniteDuration()) {
    parts_.metrics.RecordFirstToken(parts_.clock.Monotonic() - request.arrived);
  }
  if (request.end_waits) return End(request);
  NotifySink(request);
}

// The work that began before the claim was back was in vain.
void GenerationCore::DropWork(Request& request) {
  StopSequences(request);
  std::erase(prepared_, request.serial);
  ++request.attempt;
  request.end_waits = false;
  request.error = absl::OkStatus();
  request.prompt = {};
  request.prompt_tokens = request.cached_tokens = 0;
  request.choices.clear();
  request.started_ready = false;
  request.started.Clear();
  request.started_at = request.first_token_at = absl::InfiniteDuration();
}

// The session's last committed turn once more (rule 14), read as its prompt says.
void GenerationCore::AnswerAgain(Request& request) {
  const session::History& history = *request.turn->history;
  request.prompt_tokens = static_cast<int>(history.last_output_begin);
  FillStarted(request, request.prompt_tokens);
  request.started_ready = true;
  const v1::GenerationSpec& spec = request.spec();
  Choice& choice = request.choices.emplace_back();
  // Nobody keeps a turn's log-probabilities.
  OutputRules rules = OutputRulesFor(request, 0);
  rules.logprobs = false;
  choice.output = MakeOutput(request, rules);
  choice.reason = static_cast<v1::FinishReason>(history.last_finish_reason);
  const absl::Span<const int32_t> output = absl::MakeSpan(history.tokens).subspan(history.last_output_begin);
  if (!choice.output->Append(output, {}, choice.reason == v1::FINISH_REASON_STOP_TOKEN)) choice.output->Finish();
  if (spec.has_resume() && spec.resume().choices_size() > 0) choice.output->SetSent(spec.resume().choices(0).token_ids_size());
  request.finished.set_session_position(static_cast<int64_t>(history.tokens.size()));
  parts_.sessions.AbandonTurn(*request.turn);
  request.turn.reset();
  Finalize(request);
}

// The work has come to its end; the request's end waits for the claim.
void GenerationCore::EndWork(Request& request) {
  if (!request.claiming) return End(request);
  request.end_waits = true;
}

void GenerationCore::FailWork(Request& request, const absl::Status& error) {
  StopSequences(request);
  request.error = error;
  EndWork(request);
}

// Commits an interactive turn first; a turn that failed, or that produced nothing, changes nothing.
void GenerationCore::End(Request& request) {
  if (!request.turn.has_value()) return Finalize(request);
  const Choice* choice = request.choices.empty() ? nullptr : &request.choices[0];
  const bool empty = choice == nullptr || (choice->output->size() == 0 && choice->reason != v1::FINISH_REASON_LENGTH);
  if (!request.error.ok() || empty) {
    parts_.sessions.AbandonTurn(*request.turn);
    request.turn.reset();
    return Finalize(request);
  }
  SetPhase(request, Request::Phase::kCommitting);
  const PreparedPrompt& prompt = request.prompt;
  const std::vector<int32_t>& output = choice->output->tokens();
  session::TurnResult result{.from_position = prompt.from_position,
                             .tokens = {prompt.tokens.begin() + prompt.from_position, prompt.tokens.end()},
                             .messages = prompt.messages,
                             .output_begin = request.prompt_tokens,
                             .finish_reason = choice->reason,
                             .end = request.spec().session().end()};
  result.tokens.insert(result.tokens.end(), output.begin(), output.end());
  result.messages.push_back({.role = prompt.continues_text ? "" : "assistant",
                             .content = choice->output->text(),
                             .begin = request.prompt_tokens,
                             .end = request.prompt_tokens + choice->output->size(),
                             .told = request.prompt_tokens + choice->output->size()});
  parts_.sessions.CommitTurn(
      *request.turn, std::move(result), [this, serial = request.serial](absl::StatusOr<int64_t> position) {
        parts_.shard.Post(
            [this, serial, position = std::move(position)]() mutable { OnCommitted(serial, std::move(position)); });
      });
}

void GenerationCore::OnCommitted(uint64_t serial, absl::StatusOr<int64_t> position) {
  Request* request = FindSerial(serial);
  BERTH_CHECK(request != nullptr) << "request " << serial << " went away while its turn was committed";
  if (position.ok()) {
    request->finished.set_session_position(*position);
  } else {
    request->error = SessionError(position.status());
  }
  Finalize(*request);
}

}  // namespace berth::service
