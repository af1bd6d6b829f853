#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "worker/text/chat_template.h"

namespace berth::text {
namespace {

constexpr int kRounds = 3000;

std::vector<std::string> Seeds() {
  std::vector<std::string> seeds;
  for (const auto& entry : std::filesystem::directory_iterator("tests/golden/templates/families")) {
    std::ifstream file(entry.path());
    std::stringstream text;
    text << file.rdbuf();
    seeds.push_back(text.str());
  }
  return seeds;
}

class Mutator {
 public:
  explicit Mutator(uint32_t seed, std::vector<std::string> seeds) : random_(seed), seeds_(std::move(seeds)) {}

  std::string Next() {
    static const std::vector<std::string> kPieces = {"{{",
                                                     "}}",
                                                     "{%",
                                                     "%}",
                                                     "{#",
                                                     "#}",
                                                     "-%}",
                                                     "{%-",
                                                     "{% for x in messages %}",
                                                     "{% endfor %}",
                                                     "{% if x %}",
                                                     "{% endif %}",
                                                     "{% set x = x ~ x %}",
                                                     " | tojson",
                                                     " | list",
                                                     " is ",
                                                     "[::-1]",
                                                     "(",
                                                     ")",
                                                     "[",
                                                     "]",
                                                     "'",
                                                     "\"",
                                                     "\\",
                                                     "~",
                                                     ".",
                                                     ",",
                                                     "not ",
                                                     "loop.",
                                                     "namespace(",
                                                     "range(9)",
                                                     "messages",
                                                     "{% macro m(x) %}",
                                                     "{% endmacro %}",
                                                     "m(m)",
                                                     "\n",
                                                     "\xe4\xb8\x96",
                                                     "\xff"};
    std::string text = Pick(seeds_);
    for (int edits = 1 + static_cast<int>(random_() % 4); edits > 0; --edits) {
      const size_t at = text.empty() ? 0 : random_() % text.size();
      const size_t length = std::min<size_t>(random_() % 20, text.size() - at);
      switch (random_() % 4) {
        case 0:
          text.erase(at, length);
          break;
        case 1:
          text.insert(at, Pick(kPieces));
          break;
        case 2:
          text.insert(at, text.substr(text.empty() ? 0 : random_() % text.size(), length));
          break;
        default:
          text.replace(at, length, Pick(kPieces));
      }
    }
    return text;
  }

 private:
  const std::string& Pick(const std::vector<std::string>& from) { return from[random_() % from.size()]; }

  std::mt19937 random_;
  std::vector<std::string> seeds_;
};

// A mutated template is refused, or renders, or fails to render: always with a status of the promised kinds.
TEST(JinjaFuzzTest, MutatedTemplatesNeverCrash) {
  const uint32_t seed = std::random_device()();
  std::cout << "seed " << seed << "\n";
  Mutator mutator(seed, Seeds());
  const std::vector<ChatMessage> messages = {{"system", "be brief"}, {"user", "hi"}, {"assistant", "hello"}, {"user", "世界"}};
  const RenderOptions options{
      .variables = {{"tools", R"([{"type": "function", "function": {"name": "f", "parameters": {}}}])"}}};
  int parsed_count = 0, rendered_count = 0;
  for (int round = 0; round < kRounds; ++round) {
    const std::string source = mutator.Next();
    const auto parsed = ParseChatTemplate(source, "<s>", "</s>");
    if (!parsed.ok()) {
      ASSERT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << source;
      continue;
    }
    ++parsed_count;
    const auto text = (*parsed)->Render(messages, options);
    rendered_count += text.ok();
    ASSERT_TRUE(text.ok() || text.status().code() == absl::StatusCode::kInvalidArgument ||
                text.status().code() == absl::StatusCode::kResourceExhausted)
        << source << text.status();
  }
  EXPECT_GT(parsed_count, kRounds / 10);
  EXPECT_GT(rendered_count, kRounds / 50);
}

}  // namespace
}  // namespace berth::text
