#include <gtest/gtest.h>

#include <random>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace berth::http {
namespace {

constexpr const char* kSeeds[] = {
    R"({"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"}]},{"role":"assistant","tool_calls":[{"id":"1",)"
    R"("function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"1","content":"x"}],"tools":[{"type":"function",)"
    R"("function":{"name":"f","parameters":{"type":"object"}}}],"tool_choice":{"type":"function","function":{"name":"f"}},"n":2,)"
    R"("stop":["a"],"logit_bias":{"1":2},"logprobs":true,"top_logprobs":3,"stream":true,"stream_options":{"include_usage":true}})",
    R"({"model":"m","prompt":[[1,2],"x"],"echo":true,"best_of":1,"max_tokens":3,"seed":-1,"temperature":1e3,"bad_words":"x"})",
    R"({"model":"m","input":[{"role":"user","content":"a"},{"type":"function_call","call_id":"1","name":"f","arguments":"{}"},)"
    R"({"type":"function_call_output","call_id":"1","output":"x"}],"tools":[{"type":"function","name":"f"}],"text":{"format":)"
    R"({"type":"json_schema","schema":{}}},"reasoning":{"effort":"low"},"tool_choice":"required"})",
    R"({"model":"m","max_tokens":5,"system":[{"type":"text","text":"s"}],"messages":[{"role":"user","content":[{"type":"tool_result",)"
    R"("tool_use_id":"1","content":"x"}]},{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"f","input":{}}]}],)"
    R"("tools":[{"name":"f","input_schema":{}}],"tool_choice":{"type":"tool","name":"f"},"thinking":{"type":"enabled"}})",
    R"({"input_ids":[1,2,3],"return_logprob":true,"session_id":7,"stop_token_ids":[1],"ignore_eos":true})"};
// What a mutation puts in: whole values, and bytes that mean something to JSON.
constexpr const char* kPieces[] = {"null", "true", "-1", "1e999", "\"\"", "[]", "{}", "[[", "\"\\ud800\"", "\xff",
                                   "{",    "}",    "\"", ",",     ":",    "[",  "]",  "\\", "99999999999", "\t"};

TEST(BodyMutationTest, NoBodyBreaksAParser) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(seed);
  std::mt19937_64 random(seed);
  for (int i = 0; i < 4000; ++i) {
    std::string body = kSeeds[i % std::size(kSeeds)];
    for (uint64_t edits = i < 5 ? 0 : 1 + random() % 4; edits > 0; --edits) {
      const size_t at = random() % body.size();
      const std::string piece = kPieces[random() % std::size(kPieces)];
      body.replace(at, random() % 3 == 0 ? random() % 12 : 0, piece);
      if (body.empty()) body = "{";
    }
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(body.data()), body.size());
  }
}

}  // namespace
}  // namespace berth::http
