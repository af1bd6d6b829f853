#include "worker/service/spec_check.h"

#include <cmath>
#include <functional>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/rpc/status.h"
#include "worker/service/sim_model.h"

namespace berth::service {
namespace {

v1::GenerationSpec GoodSpec() {
  v1::GenerationSpec spec;
  spec.mutable_prompt()->set_text("hello");
  return spec;
}

struct BadCase {
  const char* field;
  std::function<void(v1::GenerationSpec&)> spoil;
};

TEST(CheckSpec, EveryBadFieldIsNamed) {
  const ServedModel model = *MakeSimModel("sim", 1000);
  ASSERT_TRUE(CheckSpec(GoodSpec(), model).ok());
  const BadCase cases[] = {
      {"sampling.temperature", [](auto& s) { s.mutable_sampling()->set_temperature(std::nanf("")); }},
      {"sampling.temperature", [](auto& s) { s.mutable_sampling()->set_temperature(-0.1f); }},
      {"sampling.temperature", [](auto& s) { s.mutable_sampling()->set_temperature(2.5f); }},
      {"sampling.top_p", [](auto& s) { s.mutable_sampling()->set_top_p(0); }},
      {"sampling.top_p", [](auto& s) { s.mutable_sampling()->set_top_p(1.5f); }},
      {"sampling.top_k", [](auto& s) { s.mutable_sampling()->set_top_k(-1); }},
      {"sampling.min_p", [](auto& s) { s.mutable_sampling()->set_min_p(NAN); }},
      {"sampling.repetition_penalty", [](auto& s) { s.mutable_sampling()->set_repetition_penalty(0); }},
      {"sampling.repetition_penalty", [](auto& s) { s.mutable_sampling()->set_repetition_penalty(INFINITY); }},
      {"sampling.repetition_penalty", [](auto& s) { s.mutable_sampling()->set_repetition_penalty(1e-38f); }},
      {"sampling.presence_penalty", [](auto& s) { s.mutable_sampling()->set_presence_penalty(3); }},
      {"sampling.frequency_penalty", [](auto& s) { s.mutable_sampling()->set_frequency_penalty(-3); }},
      {"sampling.logit_bias", [](auto& s) { (*s.mutable_sampling()->mutable_logit_bias())[1 << 20] = 1; }},
      {"sampling.logit_bias", [](auto& s) { (*s.mutable_sampling()->mutable_logit_bias())[5] = 101; }},
      {"sampling.logit_bias",
       [](auto& s) {
         for (int i = 0; i <= 1024; ++i) (*s.mutable_sampling()->mutable_logit_bias())[i] = 1;
       }},
      {"sampling.choice_count", [](auto& s) { s.mutable_sampling()->set_choice_count(0); }},
      {"sampling.choice_count", [](auto& s) { s.mutable_sampling()->set_choice_count(129); }},
      {"stop.max_tokens", [](auto& s) { s.mutable_stop()->set_max_tokens(0); }},
      {"stop.max_tokens", [](auto& s) { s.mutable_stop()->set_max_tokens(-5); }},
      {"stop.min_tokens", [](auto& s) { s.mutable_stop()->set_min_tokens(-1); }},
      {"stop.min_tokens",
       [](auto& s) {
         s.mutable_stop()->set_max_tokens(3);
         s.mutable_stop()->set_min_tokens(4);
       }},
      {"stop.stop_strings", [](auto& s) { s.mutable_stop()->add_stop_strings(""); }},
      {"stop.stop_strings",
       [](auto& s) {
         for (int i = 0; i < 17; ++i) s.mutable_stop()->add_stop_strings("x");
       }},
      {"stop.stop_token_ids", [](auto& s) { s.mutable_stop()->add_stop_token_ids(-1); }},
      {"stop.bad_words", [](auto& s) { s.mutable_stop()->add_bad_words(""); }},
      {"output.top_logprobs", [](auto& s) { s.mutable_output()->set_top_logprobs(21); }},
      {"output.prompt_logprobs", [](auto& s) { s.mutable_output()->set_prompt_logprobs(true); }},
      {"output.prompt_logprobs",
       [](auto& s) {
         s.mutable_output()->set_top_logprobs(0);
         s.mutable_output()->set_prompt_logprobs(true);
         s.set_session_id("a");
         s.mutable_session()->set_mode(v1::SESSION_MODE_INTERACTIVE);
       }},
      {"resume.prompt_logprobs", [](auto& s) { s.mutable_resume()->set_prompt_logprobs(-1); }},
      {"priority", [](auto& s) { s.set_priority(101); }},
      {"prompt", [](auto& s) { s.clear_prompt(); }},
      {"prompt.text", [](auto& s) { s.mutable_prompt()->set_text(""); }},
      {"prompt.chat.messages", [](auto& s) { s.mutable_prompt()->mutable_chat(); }},
      {"prompt.token_ids", [](auto& s) { s.mutable_prompt()->mutable_token_ids()->add_ids(-7); }},
      {"prompt.token_ids", [](auto& s) { s.mutable_prompt()->mutable_token_ids(); }},
      {"request_id", [](auto& s) { s.set_request_id(std::string(257, 'r')); }},
      {"session_id", [](auto& s) { s.set_session_id(std::string(257, 's')); }},
      {"session_id", [](auto& s) { s.mutable_session()->set_mode(v1::SESSION_MODE_INTERACTIVE); }},
      {"session_id",
       [](auto& s) {
         s.set_session_id("a~1");
         s.mutable_session()->set_mode(v1::SESSION_MODE_INTERACTIVE);
         s.mutable_session()->set_start(true);
       }},
      {"session", [](auto& s) { s.mutable_session()->set_position(3); }},
      {"session.replace",
       [](auto& s) {
         s.set_session_id("a");
         s.mutable_session()->set_mode(v1::SESSION_MODE_INTERACTIVE);
         s.mutable_session()->set_replace(true);
       }},
      {"sampling.choice_count",
       [](auto& s) {
         s.set_session_id("a");
         s.mutable_session()->set_mode(v1::SESSION_MODE_INTERACTIVE);
         s.mutable_sampling()->set_choice_count(2);
       }},
  };
  for (const BadCase& bad : cases) {
    v1::GenerationSpec spec = GoodSpec();
    bad.spoil(spec);
    const absl::Status status = CheckSpec(spec, model);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bad.field;
    const auto violations = rpc::FieldViolations(status);
    ASSERT_EQ(violations.size(), 1) << bad.field << ": " << status;
    EXPECT_EQ(violations[0].first, bad.field);
  }
}

TEST(CheckSpec, OtherModelsAndOffersAreToldApart) {
  const ServedModel model = *MakeSimModel("sim", 1000);
  v1::GenerationSpec spec = GoodSpec();
  spec.set_model("other");
  EXPECT_EQ(CheckSpec(spec, model).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(rpc::Reason(CheckSpec(spec, model)), "MODEL_NOT_FOUND");
  spec.set_model("sim");
  EXPECT_TRUE(CheckSpec(spec, model).ok());
  spec.set_lora_name("adapter");
  EXPECT_EQ(CheckSpec(spec, model).code(), absl::StatusCode::kUnimplemented);
  spec.clear_lora_name();
  spec.mutable_constraint()->set_regex("a*");
  EXPECT_TRUE(CheckSpec(spec, model).ok());
  spec.mutable_stop()->set_ignore_eos(true);
  EXPECT_EQ(CheckSpec(spec, model).code(), absl::StatusCode::kInvalidArgument);
  spec.clear_constraint();
  EXPECT_TRUE(CheckSpec(spec, model).ok());
  spec.mutable_prompt()->mutable_chat()->set_call_required(true);
  EXPECT_EQ(CheckSpec(spec, model).code(), absl::StatusCode::kInvalidArgument);
}

TEST(CheckSpec, AResumeNeedsTheSameModel) {
  const ServedModel model = *MakeSimModel("sim", 1000);
  v1::GenerationSpec spec = GoodSpec();
  spec.mutable_resume();
  EXPECT_TRUE(CheckSpec(spec, model).ok()) << "nothing of it was seen";
  spec.mutable_resume()->set_next_seq(3);
  EXPECT_EQ(rpc::Reason(CheckSpec(spec, model)), "WORKER_LOST");
  spec.mutable_resume()->set_model_fingerprint(model.fingerprint + 1);
  EXPECT_EQ(rpc::Reason(CheckSpec(spec, model)), "WORKER_LOST");
  spec.mutable_resume()->set_model_fingerprint(model.fingerprint);
  EXPECT_TRUE(CheckSpec(spec, model).ok());
  spec.mutable_resume()->add_choices()->set_index(1);
  EXPECT_EQ(CheckSpec(spec, model).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace berth::service
