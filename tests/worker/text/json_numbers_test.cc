#include "worker/text/grammar/json_numbers.h"

#include <climits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/text/golden.h"
#include "worker/text/grammar/matcher.h"

namespace berth::text {
namespace {

using nlohmann::json;
using testing::HasSubstr;

// Where outputs of a schema begin, of which copies follow one each.
GrammarMatcher Start(const std::string& schema) {
  static const auto& no_tokens = *new TokenTrie;
  const auto grammar = ParseJsonSchema(schema);
  EXPECT_TRUE(grammar.ok()) << grammar.status();
  return GrammarMatcher(CompiledGrammar::Make(*grammar, no_tokens).value());
}

GrammarMatcher Start(const json& schema) { return Start(schema.dump()); }

bool Matches(GrammarMatcher matcher, std::string_view text) { return matcher.Accept(text) && matcher.complete(); }

constexpr std::string_view kCharacters = "-.0123456789";

// A number ends after so many more characters.
bool CanEnd(const GrammarMatcher& matcher, int characters) {
  if (matcher.complete()) return true;
  for (const char c : kCharacters) {
    GrammarMatcher next = matcher;
    if (characters > 0 && next.Accept({&c, 1}) && CanEnd(next, characters - 1)) return true;
  }
  return false;
}

// A random schema with bounds and a divisor of two places, and what it says of a number of thousandths.
class RandomNumbers {
 public:
  explicit RandomNumbers(std::mt19937& random) {
    const auto bound = [&](const char* key) {
      const int hundredths = std::uniform_int_distribution<int>(-1200, 1200)(random) / (random() % 3 == 0 ? 100 : 1);
      schema_[key] = hundredths / 100.0;
      return hundredths * 10;
    };
    if (random() % 4 != 0) low_ = bound("minimum");
    if (random() % 4 == 0) above_ = bound("exclusiveMinimum");
    if (random() % 4 == 0) below_ = bound("exclusiveMaximum");
    if (random() % 2 == 0) {
      constexpr int kHundredths[] = {1, 5, 25, 50, 100, 150, 250, 300, 700, 1000, 1200};
      divisor_ = kHundredths[random() % std::size(kHundredths)] * 10;
      schema_["multipleOf"] = divisor_ / 1000.0;
    }
    if (random() % 4 != 0 || schema_.is_null()) high_ = bound("maximum");
    integer_ = random() % 3 == 0;
    schema_["type"] = integer_ ? "integer" : "number";
  }

  const json& schema() const { return schema_; }
  bool Has(int thousandths, bool point) const {
    return low_ <= thousandths && above_ < thousandths && thousandths <= high_ && thousandths < below_ &&
           thousandths % divisor_ == 0 && !(integer_ && point);
  }

 private:
  json schema_;
  int low_ = INT_MIN, above_ = INT_MIN, high_ = INT_MAX, below_ = INT_MAX, divisor_ = 1;
  bool integer_ = false;
};

TEST(JsonNumbersTest, ExactlyTheNumbersOfASchema) {
  std::mt19937 random(2);
  for (int round = 0, with_numbers = 0; with_numbers < 60; ++round) {
    ASSERT_LT(round, 1000);
    const RandomNumbers numbers(random);
    if (!ParseJsonSchema(numbers.schema().dump()).ok()) {
      for (int n = -13'000; n <= 13'000; ++n) ASSERT_FALSE(numbers.Has(n, n % 1000 != 0)) << numbers.schema() << " " << n;
      continue;
    }
    ++with_numbers;
    const GrammarMatcher start = Start(numbers.schema());
    for (const auto& [step, cut] : {std::pair(1, 0), std::pair(10, 1), std::pair(100, 2), std::pair(1000, 4)}) {
      for (int n = -13'000; n <= 13'000; n += step) {
        std::string text = absl::StrFormat("%s%d.%03d", n < 0 ? "-" : "", std::abs(n) / 1000, std::abs(n) % 1000);
        text.resize(text.size() - cut);
        ASSERT_EQ(Matches(start, text), numbers.Has(n, step < 1000)) << numbers.schema() << " " << text;
      }
    }
    for (const char* text : {"", "-", "-0", "-0.0", "00", "01", "-01", "1.", ".5", "+1", "1e0", "0x1", "1 "}) {
      EXPECT_FALSE(Matches(start, text)) << numbers.schema() << " " << text;
    }
    for (int walk = 0; walk < 10; ++walk) {
      GrammarMatcher matcher = start;
      for (std::string text; text.size() < 8;) {
        ASSERT_TRUE(CanEnd(matcher, 5)) << numbers.schema() << " " << text;
        const char c = kCharacters[random() % kCharacters.size()];
        if (matcher.Accept({&c, 1}))
          text.push_back(c);
        else if (matcher.complete())
          break;
      }
    }
  }
}

// make_numbers.py has what jsonschema finds, computing in decimals.
TEST(JsonNumbersTest, WhatJsonschemaFindsValid) {
  for (const json& test : json::parse(ReadGolden("numbers.json"))) {
    const std::string schema = test["schema"];
    if (const auto grammar = ParseJsonSchema(schema); !grammar.ok()) {
      EXPECT_THAT(std::string(grammar.status().message()), HasSubstr("no number is within these limits")) << schema;
      EXPECT_TRUE(test["valid"].empty()) << schema;
      continue;
    }
    const GrammarMatcher start = Start(schema);
    for (const std::string text : test["valid"]) EXPECT_TRUE(Matches(start, text)) << schema << " " << text;
    for (const std::string text : test["invalid"]) EXPECT_FALSE(Matches(start, text)) << schema << " " << text;
  }
}

TEST(JsonNumbersTest, LongNumbers) {
  const GrammarMatcher int64 = Start({{"type", "integer"}, {"minimum", INT64_MIN}, {"maximum", INT64_MAX}});
  for (const char* text : {"9223372036854775807", "-9223372036854775808", "0"}) EXPECT_TRUE(Matches(int64, text)) << text;
  for (const char* text : {"9223372036854775808", "-9223372036854775809"}) EXPECT_FALSE(Matches(int64, text)) << text;
  const GrammarMatcher above = Start({{"type", "number"}, {"exclusiveMinimum", 1e-7}, {"maximum", 1e19}});
  for (const char* text : {"0.00000010000000000000000000000000001", "10000000000000000000.000", "7"}) {
    EXPECT_TRUE(Matches(above, text)) << text;
  }
  for (const char* text : {"0.0000001", "0.0000001000000", "10000000000000000000.0000000000001", "0"}) {
    EXPECT_FALSE(Matches(above, text)) << text;
  }
  const GrammarMatcher sevenths = Start({{"type", "number"}, {"multipleOf", 7}});
  EXPECT_TRUE(Matches(sevenths, "700000000000000000000000000007.0000"));
  EXPECT_FALSE(Matches(sevenths, "700000000000000000000000000008"));
  EXPECT_FALSE(Matches(sevenths, "7.0001"));
  const GrammarMatcher thousands = Start({{"type", "integer"}, {"multipleOf", 1000}, {"minimum", 1000}});
  for (const char* text : {"1000", "123456789000"}) EXPECT_TRUE(Matches(thousands, text)) << text;
  for (const char* text : {"0", "1001", "123456789100"}) EXPECT_FALSE(Matches(thousands, text)) << text;
}

TEST(JsonNumbersTest, NamesWhatIsWrong) {
  const auto error = [](const json& schema) { return std::string(ParseJsonSchema(schema.dump()).status().message()); };
  const auto multiple = [&](json value) { return error({{"type", "number"}, {"multipleOf", std::move(value)}}); };
  EXPECT_THAT(error({{"type", "integer"}, {"maximum", "3"}}), HasSubstr("#/maximum: want a number of at most 20 digits"));
  EXPECT_THAT(error({{"type", "number"}, {"minimum", 1e300}}), HasSubstr("before and after its point, got 1e+300"));
  EXPECT_THAT(multiple("a"),
              HasSubstr("#/multipleOf: want a number of at most 20 digits before and after its point, got \"a\""));
  for (const char* value : {"0", "0.0", "-2"}) {
    EXPECT_THAT(multiple(json::parse(value)), HasSubstr(absl::StrCat("#/multipleOf: want a number above 0, got ", value)));
  }
  EXPECT_THAT(multiple(100.1), HasSubstr("#/multipleOf: 100.1 is not supported: its digits are above 1000"));
  EXPECT_THAT(error({{"type", "integer"}, {"multipleOf", 997}, {"minimum", 123'456'789}}),
              HasSubstr("#/multipleOf: 997 is not supported: with these limits it takes more than 4000 states"));
  for (const json& none :
       {json{{"exclusiveMinimum", 3}, {"maximum", 3}}, json{{"multipleOf", 7}, {"minimum", 1}, {"maximum", 6}},
        json{{"type", "integer"}, {"minimum", 0.25}, {"maximum", 0.75}}}) {
    EXPECT_THAT(error(none), HasSubstr("#: no number is within these limits")) << none;
  }
}

}  // namespace
}  // namespace berth::text
