#include "gateway/http/json_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "proto/rpc/status.h"

namespace berth::http {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

nlohmann::ordered_json Parse(const std::string& text) { return *ParseObject(text); }

std::string Mistake(const JsonFields& fields) {
  const auto violations = rpc::FieldViolations(fields.status());
  return violations.empty() ? "" : violations.front().first + ": " + violations.front().second;
}

TEST(ParseObjectTest, SaysWhereTheMistakeIs) {
  EXPECT_THAT(std::string(ParseObject(R"({"a": nope})").status().message()), HasSubstr("byte 8"));
  EXPECT_THAT(std::string(ParseObject("").status().message()), HasSubstr("not valid JSON"));
  EXPECT_THAT(std::string(ParseObject("[1]").status().message()), HasSubstr("not array"));
  EXPECT_THAT(std::string(ParseObject("{\"a\":1e999}").status().message()), HasSubstr("out of range"));
  for (const char* text :
       {"{", "{\"a\":NaN}", "{\"a\":Infinity}", "{\"a\":1e999}", "{\"a\":\"\xff\"}", "{\"a\":\"\xc3\"}", "{}x", "{\"a\":1,}"}) {
    EXPECT_EQ(ParseObject(text).status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(ParseObjectTest, DeepNestingIsHarmless) {
  const std::string deep = "{\"a\":" + std::string(200000, '[') + std::string(200000, ']') + "}";
  EXPECT_FALSE(ParseObject(deep).ok());
  EXPECT_FALSE(ParseObject("{\"a\":" + std::string(200000, '[')).ok());
}

TEST(JsonFieldsTest, ReadsEveryType) {
  const auto object =
      Parse(R"({"b":true,"i":-3,"f":0.5,"whole":2,"s":"x","l":["a","b"],"one":"a","n":null,"ids":[1,2],"o":{}})");
  JsonFields fields(object);
  EXPECT_EQ(fields.Bool("b"), true);
  EXPECT_EQ(fields.Int32("i"), -3);
  EXPECT_EQ(fields.Float("f"), 0.5f);
  EXPECT_EQ(fields.Float("whole"), 2.0f);
  EXPECT_EQ(fields.String("s"), "x");
  EXPECT_THAT(fields.Strings("l"), ElementsAre("a", "b"));
  EXPECT_THAT(fields.Strings("one"), ElementsAre("a"));
  EXPECT_THAT(fields.Int32s("ids"), ElementsAre(1, 2));
  EXPECT_NE(fields.Object("o"), nullptr);
  for (const char* absent : {"n", "missing"}) {
    EXPECT_FALSE(fields.Bool(absent).has_value());
    EXPECT_FALSE(fields.Int64(absent).has_value());
    EXPECT_FALSE(fields.Float(absent).has_value());
    EXPECT_FALSE(fields.String(absent).has_value());
    EXPECT_THAT(fields.Strings(absent), IsEmpty());
    EXPECT_EQ(fields.Array(absent), nullptr);
  }
  EXPECT_TRUE(fields.status().ok());
}

TEST(JsonFieldsTest, WrongTypesNameTheFieldAndTheValue) {
  const auto object =
      Parse(R"({"s":1,"b":"true","i":1.5,"f":"1","l":{"x":1},"mixed":["a",2],"a":")" + std::string(99, 'x') + R"(","o":[]})");
  const auto mistake = [&](auto read) {
    JsonFields fields(object);
    read(fields);
    return Mistake(fields);
  };
  EXPECT_EQ(mistake([](JsonFields& f) { f.String("s"); }), "s: must be a string, not 1");
  EXPECT_EQ(mistake([](JsonFields& f) { f.Bool("b"); }), R"(b: must be a boolean, not "true")");
  EXPECT_EQ(mistake([](JsonFields& f) { f.Int32("i"); }), "i: must be an integer, not 1.5");
  EXPECT_EQ(mistake([](JsonFields& f) { f.Float("f"); }), R"(f: must be a number, not "1")");
  EXPECT_EQ(mistake([](JsonFields& f) { f.Strings("l"); }), "l: must be a string or an array of strings, not object");
  EXPECT_EQ(mistake([](JsonFields& f) { f.Strings("mixed"); }), "mixed[1]: must be a string, not 2");
  EXPECT_EQ(mistake([](JsonFields& f) { f.Array("a"); }), "a: must be an array, not \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"…");
  EXPECT_EQ(mistake([](JsonFields& f) { f.Object("o"); }), "o: must be an object, not array");
}

TEST(JsonFieldsTest, NumbersThatDoNotFitAreRefused) {
  const auto object = Parse(R"({"i":2147483648,"big":18446744073709551615,"f":1e39,"small":3,"ids":[1,4294967296]})");
  const auto mistake = [&](auto read) {
    JsonFields fields(object);
    read(fields);
    return Mistake(fields);
  };
  EXPECT_EQ(mistake([](JsonFields& f) { EXPECT_FALSE(f.Int32("i").has_value()); }),
            "i: is 2147483648, want -2147483648 … 2147483647");
  EXPECT_EQ(mistake([](JsonFields& f) { EXPECT_FALSE(f.Int64("big").has_value()); }),
            "big: is 18446744073709551615, which is out of range");
  EXPECT_EQ(mistake([](JsonFields& f) { EXPECT_FALSE(f.Int32("small", 4, 5).has_value()); }), "small: is 3, want 4 … 5");
  EXPECT_EQ(mistake([](JsonFields& f) { EXPECT_FALSE(f.Float("f").has_value()); }), "f: is 1e+39, which is out of range");
  EXPECT_THAT(mistake([](JsonFields& f) { f.Int32s("ids"); }), HasSubstr("ids[1]"));
}

TEST(JsonFieldsTest, TheFirstMistakeIsKeptWithItsPath) {
  const auto object = Parse(R"({"a":1,"b":2})");
  JsonFields fields(object, "outer.inner");
  fields.String("b");
  fields.String("a");
  EXPECT_THAT(Mistake(fields), HasSubstr("outer.inner.b"));
  const auto clean = Parse("{}");
  JsonFields outer(clean);
  outer.Take(fields);
  EXPECT_THAT(Mistake(outer), HasSubstr("outer.inner.b"));
}

TEST(JsonFieldsTest, WhatIsRefusedIsKnownAndNotRead) {
  const auto object = Parse(R"({"a":1,"b":null,"c":2})");
  JsonFields fields(object);
  fields.Refuse("b");
  EXPECT_TRUE(fields.status().ok()) << "null is as good as absent";
  fields.Refuse("a", "is not offered");
  EXPECT_EQ(Mistake(fields), "a: is not offered");
  EXPECT_THAT(fields.Unread(), ElementsAre("c"));
  EXPECT_THAT(fields.read(), IsEmpty());
}

TEST(ParseObjectTest, RefusesWhatNestsTooDeep) {
  const auto nested = [](int levels) { return "{\"x\":" + std::string(levels, '[') + std::string(levels, ']') + "}"; };
  EXPECT_TRUE(ParseObject(nested(100)).ok());
  EXPECT_EQ(ParseObject(nested(1000000)).status().message(), "the body nests deeper than 128 levels");
  EXPECT_TRUE(ParseObject("{\"x\":\"\\\\\\\"" + std::string(1000, '[') + "\"}").ok());
}

// They are refused before they are parsed: none of these ends as JSON does.
TEST(ParseObjectTest, RefusesTooManyKeys) {
  const auto object = [](int keys) {
    std::string text = "{";
    for (int i = 0; i < keys; ++i) absl::StrAppend(&text, i > 0 ? "," : "", "\"", i, ":\":[0]");
    return text + "}";
  };
  EXPECT_TRUE(ParseObject(object(2000)).ok());
  const std::string several = "{\"a\":[" + object(10000) + "," + object(10000) + "," + object(10000);
  for (const std::string& text : {object(100000) + "x", "{\"a\":{\"b\":" + object(16385), several}) {
    EXPECT_EQ(ParseObject(text).status().message(),
              "the body has objects of too many keys: at most 16384 in one, fewer in each of several");
  }
}

}  // namespace
}  // namespace berth::http
