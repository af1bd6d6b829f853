#include "worker/service/spec_check.h"

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"
#include "proto/rpc/limits.h"
#include "proto/rpc/status.h"
#include "worker/service/prompt.h"

namespace berth::service {
namespace {

constexpr int kMaxStopStrings = 16;
constexpr int kMaxStopStringBytes = 4096;
constexpr int kMaxBadWords = 128;
constexpr int kMaxLogitBiases = 1024;  // every step of the request goes through them one by one
constexpr int kMaxTools = 128;

absl::Status CheckName(const char* field, const std::string& name) {
  if (name.size() <= rpc::kMaxNameBytes) return absl::OkStatus();
  return rpc::FieldError(field, absl::StrCat("has ", name.size(), " bytes, want at most ", rpc::kMaxNameBytes));
}

// NaN fails every range.
absl::Status CheckRange(const char* field, double value, double low, double high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return rpc::FieldError(field, absl::StrCat("is ", value, ", want ", low, " … ", high));
}

absl::Status CheckAtLeast(const char* field, int64_t value, int64_t low) {
  if (value >= low) return absl::OkStatus();
  return rpc::FieldError(field, absl::StrCat("is ", value, ", want at least ", low));
}

absl::Status CheckToken(const char* field, int32_t id, const ServedModel& model) {
  if (id >= 0 && id < model.tokenizer->size()) return absl::OkStatus();
  return rpc::FieldError(field, absl::StrCat("has token id ", id, ", want 0 … ", model.tokenizer->size() - 1));
}

absl::Status CheckSampling(const v1::SamplingParams& sampling, const ServedModel& model) {
  if (sampling.has_temperature()) BERTH_RETURN_IF_ERROR(CheckRange("sampling.temperature", sampling.temperature(), 0, 2));
  if (sampling.has_top_p()) {
    if (sampling.top_p() == 0) return rpc::FieldError("sampling.top_p", "is 0, want more than 0");
    BERTH_RETURN_IF_ERROR(CheckRange("sampling.top_p", sampling.top_p(), 0, 1));
  }
  if (sampling.has_top_k()) BERTH_RETURN_IF_ERROR(CheckAtLeast("sampling.top_k", sampling.top_k(), 0));
  if (sampling.has_min_p()) BERTH_RETURN_IF_ERROR(CheckRange("sampling.min_p", sampling.min_p(), 0, 1));
  if (sampling.has_repetition_penalty()) {
    BERTH_RETURN_IF_ERROR(CheckRange("sampling.repetition_penalty", sampling.repetition_penalty(), 0.01, 100));
  }
  if (sampling.has_presence_penalty()) {
    BERTH_RETURN_IF_ERROR(CheckRange("sampling.presence_penalty", sampling.presence_penalty(), -2, 2));
  }
  if (sampling.has_frequency_penalty()) {
    BERTH_RETURN_IF_ERROR(CheckRange("sampling.frequency_penalty", sampling.frequency_penalty(), -2, 2));
  }
  if (sampling.logit_bias_size() > kMaxLogitBiases) {
    return rpc::FieldError("sampling.logit_bias",
                           absl::StrCat("has ", sampling.logit_bias_size(), " tokens, want at most ", kMaxLogitBiases));
  }
  for (const auto& [id, bias] : sampling.logit_bias()) {
    BERTH_RETURN_IF_ERROR(CheckToken("sampling.logit_bias", id, model));
    BERTH_RETURN_IF_ERROR(CheckRange("sampling.logit_bias", bias, -100, 100));
  }
  if (sampling.has_choice_count()) {
    BERTH_RETURN_IF_ERROR(CheckRange("sampling.choice_count", sampling.choice_count(), 1, rpc::kMaxChoices));
  }
  return absl::OkStatus();
}

// `least_tokens`: of output.
absl::Status CheckStop(const v1::StopCriteria& stop, int least_tokens, const ServedModel& model) {
  if (stop.has_max_tokens()) BERTH_RETURN_IF_ERROR(CheckAtLeast("stop.max_tokens", stop.max_tokens(), least_tokens));
  if (stop.has_min_tokens()) BERTH_RETURN_IF_ERROR(CheckAtLeast("stop.min_tokens", stop.min_tokens(), 0));
  if (stop.has_max_tokens() && stop.min_tokens() > stop.max_tokens()) {
    return rpc::FieldError("stop.min_tokens", absl::StrCat("is ", stop.min_tokens(), ", max_tokens is ", stop.max_tokens()));
  }
  if (stop.stop_strings_size() > kMaxStopStrings) {
    return rpc::FieldError("stop.stop_strings",
                           absl::StrCat("has ", stop.stop_strings_size(), " strings, want at most ", kMaxStopStrings));
  }
  for (const std::string& text : stop.stop_strings()) {
    if (text.empty()) return rpc::FieldError("stop.stop_strings", "has an empty string");
    if (text.size() > kMaxStopStringBytes) {
      return rpc::FieldError("stop.stop_strings",
                             absl::StrCat("has a string of ", text.size(), " bytes, want at most ", kMaxStopStringBytes));
    }
  }
  BERTH_RETURN_IF_ERROR(CheckTokens("stop.stop_token_ids", stop.stop_token_ids(), model));
  if (stop.bad_words_size() > kMaxBadWords) {
    return rpc::FieldError("stop.bad_words",
                           absl::StrCat("has ", stop.bad_words_size(), " words, want at most ", kMaxBadWords));
  }
  for (const std::string& word : stop.bad_words()) {
    if (word.empty()) return rpc::FieldError("stop.bad_words", "has an empty word");
  }
  return absl::OkStatus();
}

absl::Status CheckOutput(const v1::OutputOptions& output) {
  if (output.has_top_logprobs()) {
    return CheckRange("output.top_logprobs", output.top_logprobs(), 0, rpc::kMaxTopLogprobs);
  }
  return output.prompt_logprobs() ? rpc::FieldError("output.prompt_logprobs", "needs top_logprobs") : absl::OkStatus();
}

absl::Status CheckSession(const v1::GenerationSpec& spec) {
  const v1::SessionOptions& session = spec.session();
  if (session.mode() != v1::SESSION_MODE_INTERACTIVE) {
    if (session.start() || session.replace() || session.end() || session.has_position()) {
      return rpc::FieldError("session", "start, replace, end and position need mode SESSION_MODE_INTERACTIVE");
    }
    return absl::OkStatus();
  }
  if (spec.session_id().empty()) return rpc::FieldError("session_id", "is empty, an interactive turn needs one");
  if (session.start() && absl::StrContains(spec.session_id(), '~')) {
    return rpc::FieldError("session_id", "holds '~', which is kept for branches");
  }
  if (MustCall(spec.prompt().chat())) {
    return rpc::FieldError(spec.prompt().chat().call_required() ? "prompt.chat.call_required" : "prompt.chat.forced_tool",
                           "is not for interactive turns");
  }
  if (spec.output().prompt_logprobs()) return rpc::FieldError("output.prompt_logprobs", "is not for interactive turns");
  if (spec.prompt().has_infill()) return rpc::FieldError("prompt.infill", "is not for interactive turns");
  if (session.replace() && !session.start()) return rpc::FieldError("session.replace", "needs start");
  if (spec.sampling().choice_count() > 1) {
    return rpc::FieldError("sampling.choice_count",
                           absl::StrCat("is ", spec.sampling().choice_count(), ", an interactive turn has 1"));
  }
  return absl::OkStatus();
}

absl::Status CheckResume(const v1::GenerationSpec& spec, const ServedModel& model) {
  if (!spec.has_resume()) return absl::OkStatus();
  // A caller that has seen nothing knows no fingerprint.
  const bool unseen = spec.resume().next_seq() == 0 && spec.resume().choices().empty();
  if (spec.resume().model_fingerprint() != model.fingerprint && !(unseen && spec.resume().model_fingerprint() == 0)) {
    return rpc::ErrorWithReason(absl::StatusCode::kUnavailable, "WORKER_LOST",
                                absl::StrCat("the stream was generated by model fingerprint ",
                                             spec.resume().model_fingerprint(), ", this worker's is ", model.fingerprint));
  }
  BERTH_RETURN_IF_ERROR(CheckAtLeast("resume.prompt_logprobs", spec.resume().prompt_logprobs(), 0));
  const int choices = spec.sampling().has_choice_count() ? spec.sampling().choice_count() : 1;
  for (const v1::ResumeFrom::Choice& choice : spec.resume().choices()) {
    if (choice.index() < 0 || choice.index() >= choices) {
      return rpc::FieldError("resume.choices.index", absl::StrCat("is ", choice.index(), ", want 0 … ", choices - 1));
    }
    BERTH_RETURN_IF_ERROR(CheckTokens("resume.choices.token_ids", choice.token_ids(), model));
  }
  return absl::OkStatus();
}

// A constrained output ends where its grammar does.
absl::Status CheckConstraint(const v1::GenerationSpec& spec) {
  if (!spec.has_constraint() && !MustCall(spec.prompt().chat())) return absl::OkStatus();
  const char* const problem = "has no meaning with a constraint or a call that must be";
  if (spec.stop().ignore_eos()) return rpc::FieldError("stop.ignore_eos", problem);
  if (spec.stop().min_tokens() > 0) return rpc::FieldError("stop.min_tokens", problem);
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckTokens(const char* field, const google::protobuf::RepeatedField<int32_t>& ids, const ServedModel& model) {
  for (const int32_t id : ids) BERTH_RETURN_IF_ERROR(CheckToken(field, id, model));
  return absl::OkStatus();
}

absl::Status CheckPrompt(const v1::Prompt& prompt, const ServedModel& model) {
  switch (prompt.kind_case()) {
    case v1::Prompt::kChat:
      if (prompt.chat().messages().empty()) return rpc::FieldError("prompt.chat.messages", "is empty");
      if (model.chat_template == nullptr) return rpc::FieldError("prompt.chat", "the model has no chat template");
      if (prompt.chat().tool_schemas_size() > kMaxTools) {
        return rpc::FieldError("prompt.chat.tool_schemas",
                               absl::StrCat("has ", prompt.chat().tool_schemas_size(), " tools, want at most ", kMaxTools));
      }
      return absl::OkStatus();
    case v1::Prompt::kText:
      return prompt.text().empty() ? rpc::FieldError("prompt.text", "is empty") : absl::OkStatus();
    case v1::Prompt::kTokenIds:
      if (prompt.token_ids().ids().empty()) return rpc::FieldError("prompt.token_ids", "is empty");
      return CheckTokens("prompt.token_ids", prompt.token_ids().ids(), model);
    case v1::Prompt::kInfill:
      if (model.infill.has_value()) return absl::OkStatus();
      return rpc::FieldError("prompt.infill.suffix", "needs a model with tokens for what to fill in, which this one lacks");
    case v1::Prompt::KIND_NOT_SET:
      break;
  }
  return rpc::FieldError("prompt", "is missing");
}

absl::Status CheckModelName(const std::string& name, const ServedModel& model) {
  if (name.empty() || name == model.name) return absl::OkStatus();
  return rpc::ErrorWithReason(absl::StatusCode::kNotFound, "MODEL_NOT_FOUND",
                              absl::StrCat("no model \"", name, "\", this worker serves \"", model.name, "\""));
}

absl::Status CheckSpec(const v1::GenerationSpec& spec, const ServedModel& model) {
  BERTH_RETURN_IF_ERROR(CheckName("request_id", spec.request_id()));
  BERTH_RETURN_IF_ERROR(CheckName("session_id", spec.session_id()));
  BERTH_RETURN_IF_ERROR(CheckModelName(spec.model(), model));
  if (!spec.lora_name().empty()) return absl::UnimplementedError("lora_name: adapters are not offered yet");
  BERTH_RETURN_IF_ERROR(CheckRange("priority", spec.priority(), -rpc::kMaxPriority, rpc::kMaxPriority));
  BERTH_RETURN_IF_ERROR(CheckSampling(spec.sampling(), model));
  BERTH_RETURN_IF_ERROR(CheckOutput(spec.output()));
  BERTH_RETURN_IF_ERROR(CheckStop(spec.stop(), spec.output().prompt_logprobs() ? 0 : 1, model));
  BERTH_RETURN_IF_ERROR(CheckPrompt(spec.prompt(), model));
  BERTH_RETURN_IF_ERROR(CheckSession(spec));
  BERTH_RETURN_IF_ERROR(CheckConstraint(spec));
  return CheckResume(spec, model);
}

}  // namespace berth::service
