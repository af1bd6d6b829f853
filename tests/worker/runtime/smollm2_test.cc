#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "nlohmann/json.hpp"
#include "tests/worker/runtime/engine_runner.h"
#include "worker/loader/model_loader.h"

// The demo model's greedy tokens against Hugging Face in fp32; tests/golden/smollm2/make.py makes the file.

namespace berth::runtime {
namespace {

constexpr float kTie = 1e-3f;  // HF's own two best logits are closer than this: either is right

struct GoldenCase {
  std::string name;
  std::vector<int32_t> prompt, tokens;
  std::vector<float> gaps;
};

std::vector<GoldenCase> ReadCases() {
  std::ifstream file("tests/golden/smollm2/greedy.json");
  const nlohmann::json golden = nlohmann::json::parse(file);
  std::vector<GoldenCase> cases;
  for (const auto& entry : golden.at("cases")) {
    cases.push_back(
        {.name = entry.at("name"), .prompt = entry.at("prompt"), .tokens = entry.at("tokens"), .gaps = entry.at("gaps")});
  }
  return cases;
}

std::string DemoModel() {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(".cache/models", error)) {
    if (entry.path().extension() == ".gguf") return entry.path().string();
  }
  return "";
}

// The case from output token `done` on, the golden tokens before it given.
engine::SequenceSpec Continue(const GoldenCase& golden, engine::SequenceId id, size_t done) {
  engine::SequenceSpec spec{.id = id,
                            .tokens = golden.prompt,
                            .prompt_length = static_cast<int>(golden.prompt.size()),
                            .max_tokens = static_cast<int>(golden.tokens.size()),
                            .sampling = {.temperature = 0}};
  spec.tokens.insert(spec.tokens.end(), golden.tokens.begin(), golden.tokens.begin() + done);
  return spec;
}

TEST(SmolLm2Test, GreedyTokensEqualHuggingFace) {
  const std::string path = DemoModel();
  if (path.empty()) GTEST_SKIP() << "no .cache/models/*.gguf: deploy/quickstart downloads the demo model";
  const auto loaded = loader::LoadModel(path);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EngineRunner runner({loaded->spec, loaded->weights, loaded->spec.vocab},
                      {.executor = {.threads = 2, .kv_blocks = 32, .session_len = 1024}, .engine = {.depth = 2}});

  const std::vector<GoldenCase> cases = ReadCases();
  ASSERT_EQ(cases.size(), 8u);
  std::vector<size_t> done(cases.size(), 0);
  engine::SequenceId next_id = 1;
  while (true) {
    std::vector<engine::SequenceSpec> specs;
    std::map<engine::SequenceId, size_t> case_of;
    for (size_t i = 0; i < cases.size(); ++i) {
      if (done[i] == cases[i].tokens.size()) continue;
      case_of[next_id] = i;
      specs.push_back(Continue(cases[i], next_id++, done[i]));
    }
    if (specs.empty()) break;
    for (const auto& [id, output] : runner.Run(specs)) {
      const size_t i = case_of.at(id);
      const GoldenCase& golden = cases[i];
      const auto [got, want] = std::mismatch(output.tokens.begin(), output.tokens.end(), golden.tokens.begin() + done[i]);
      done[i] = want - golden.tokens.begin();
      if (want == golden.tokens.end()) continue;
      ASSERT_TRUE(got != output.tokens.end()) << golden.name << " ended after " << done[i] << " tokens";
      ASSERT_LT(golden.gaps[done[i]], kTie)
          << golden.name << ": output token " << done[i] << " is " << *got << ", want " << *want;
      ++done[i];
    }
  }
}

}  // namespace
}  // namespace berth::runtime
