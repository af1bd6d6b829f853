#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/worker/service/direct_fixture.h"

namespace berth::service {
namespace {

class PromptScoreTest : public DirectTest {
 protected:
  static v1::GenerationSpec ScoreSpec(const std::string& id, const std::vector<int32_t>& prompt, int max_tokens) {
    v1::GenerationSpec spec;
    spec.set_request_id(id);
    spec.mutable_prompt()->mutable_token_ids()->mutable_ids()->Add(prompt.begin(), prompt.end());
    spec.mutable_sampling()->set_seed(5);
    spec.mutable_stop()->set_max_tokens(max_tokens);
    spec.mutable_stop()->set_ignore_eos(true);
    spec.mutable_output()->set_top_logprobs(2);
    spec.mutable_output()->set_prompt_logprobs(true);
    spec.mutable_output()->set_token_ids(true);
    return spec;
  }
  v1::GenerateResponse Generate(const v1::GenerationSpec& spec) {
    v1::GenerateRequest request;
    *request.mutable_generation() = spec;
    grpc::ClientContext context;
    v1::GenerateResponse response;
    const grpc::Status status = worker_.inference->Generate(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  // Of a stream's prompt; fails when output came before one of them.
  std::vector<v1::TokenLogprob> StreamScores(const v1::GenerationSpec& spec) {
    v1::StreamGenerateRequest request;
    *request.mutable_generation() = spec;
    grpc::ClientContext context;
    auto reader = worker_.inference->StreamGenerate(&context, request);
    v1::StreamGenerateResponse response;
    std::vector<v1::TokenLogprob> scores;
    bool output = false;
    while (reader->Read(&response)) {
      output |= response.delta().token_ids_size() > 0;
      EXPECT_FALSE(output && response.delta().prompt_logprobs_size() > 0) << "output before the prompt's log-probabilities";
      scores.insert(scores.end(), response.delta().prompt_logprobs().begin(), response.delta().prompt_logprobs().end());
    }
    EXPECT_TRUE(reader->Finish().ok());
    return scores;
  }
  static std::string Debug(const v1::TokenLogprob& logprob) { return logprob.ShortDebugString(); }
};

// A text has the log-probabilities as a prompt that it had when it was drawn, in a stream, at once, and after a cut anywhere.
TEST_F(PromptScoreTest, EqualThoseOfTheSameTextAsOutput) {
  const std::vector<int32_t> begin = {300, 301, 302};
  const v1::GenerateResponse::Choice drawn = Generate(ScoreSpec("drawn", begin, 200)).choices(0);
  std::vector<int32_t> text = begin;
  text.insert(text.end(), drawn.token_ids().begin(), drawn.token_ids().end());

  v1::GenerationSpec spec = ScoreSpec("scored", text, 3);
  spec.mutable_sampling()->set_choice_count(3);
  const v1::GenerateResponse scored = Generate(spec);
  ASSERT_EQ(scored.choices_size(), 3);
  const v1::GenerateResponse::Choice& first = scored.choices(0);
  ASSERT_EQ(first.prompt_logprobs_size(), 203);
  EXPECT_EQ(first.prompt_logprobs(0).logprob(), 0);
  EXPECT_EQ(first.prompt_logprobs(0).alternatives_size(), 0);
  EXPECT_FALSE(first.prompt_logprobs(0).token().empty());
  for (int i = 0; i < 200; ++i) EXPECT_EQ(Debug(first.prompt_logprobs(3 + i)), Debug(drawn.logprobs(i))) << i;
  for (const v1::GenerateResponse::Choice& choice : scored.choices()) EXPECT_EQ(choice.logprobs_size(), 3);
  EXPECT_EQ(scored.choices(1).prompt_logprobs_size(), 0);

  for (const int cut : {0, 1, 64, 202, 203}) {
    v1::GenerationSpec resumed = spec;
    resumed.set_request_id("resumed" + std::to_string(cut));
    resumed.mutable_resume()->set_model_fingerprint(scored.started().model_fingerprint());
    resumed.mutable_resume()->set_next_seq(2);
    resumed.mutable_resume()->set_prompt_logprobs(cut);
    const std::vector<v1::TokenLogprob> rest = StreamScores(resumed);
    ASSERT_EQ(rest.size(), static_cast<size_t>(203 - cut));
    for (int i = cut; i < 203; ++i) EXPECT_EQ(Debug(rest[i - cut]), Debug(first.prompt_logprobs(i)));
  }
}

TEST_F(PromptScoreTest, WithoutAnyOutput) {
  for (const int length : {1, 2, 64, 65, 300}) {
    SCOPED_TRACE(length);
    std::vector<int32_t> prompt;
    for (int i = 0; i < length; ++i) prompt.push_back(300 + i);
    v1::GenerationSpec spec = ScoreSpec("r" + std::to_string(length), prompt, 0);
    spec.mutable_sampling()->set_choice_count(2);
    const v1::GenerateResponse response = Generate(spec);
    ASSERT_EQ(response.choices_size(), 2);
    EXPECT_EQ(response.choices(0).prompt_logprobs_size(), length);
    for (const v1::GenerateResponse::Choice& choice : response.choices()) {
      EXPECT_EQ(choice.text(), "");
      EXPECT_EQ(choice.finish_reason(), v1::FINISH_REASON_LENGTH);
    }
    EXPECT_EQ(response.usage().prompt_tokens(), length);
    EXPECT_EQ(response.usage().completion_tokens(), 0);
    // A worker that goes on before it has told any.
    spec.set_request_id("again" + std::to_string(length));
    spec.mutable_resume()->set_model_fingerprint(response.started().model_fingerprint());
    spec.mutable_resume()->set_next_seq(1);
    for (int i = 0; i < 2; ++i) spec.mutable_resume()->add_choices()->set_index(i);
    EXPECT_EQ(StreamScores(spec).size(), static_cast<size_t>(length));
  }
  AwaitFreeKv();
}

// Beyond what one frame of a link or one refill of a call takes.
TEST_F(PromptScoreTest, OfALongPromptComeInPieces) {
  std::vector<int32_t> prompt;
  for (int i = 0; i < 3000; ++i) prompt.push_back(300 + i % 700);
  v1::GenerationSpec spec = ScoreSpec("r", prompt, 1);
  spec.mutable_output()->set_top_logprobs(20);
  EXPECT_EQ(StreamScores(spec).size(), 3000u);
}

}  // namespace
}  // namespace berth::service
