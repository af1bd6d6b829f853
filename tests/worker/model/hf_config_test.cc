#include "worker/model/hf_config.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace berth::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

HfConfig Parse(std::string_view json) { return HfConfig::Parse(json).value(); }

TEST(HfConfigTest, ReadsTypedFields) {
  const HfConfig config = Parse(R"({"layers": 3, "eps": 1e-5, "tied": true, "act": "silu", "theta": 10000})");
  EXPECT_EQ(config.Int("layers").value(), 3);
  EXPECT_EQ(config.Float("eps").value(), 1e-5);
  EXPECT_EQ(config.Bool("tied").value(), true);
  EXPECT_EQ(config.String("act").value(), "silu");
  EXPECT_EQ(config.Float("theta").value(), 10000) << "an integer is a float, too";
}

TEST(HfConfigTest, NamesNestedFieldsByPath) {
  const HfConfig config = Parse(R"({"rope_scaling": {"type": "linear", "factor": 2.0}, "empty": {}})");
  EXPECT_TRUE(config.Has("rope_scaling"));
  EXPECT_FALSE(config.Has("rope"));
  EXPECT_FALSE(config.Has("empty"));
  EXPECT_EQ(config.Float("rope_scaling.factor").value(), 2.0);
}

TEST(HfConfigTest, AKeyWithADotIsNoNestedField) {
  const HfConfig config = Parse(R"({"a": 1, "a.b": 2, "c": {"d..e": 3, "f": 4}})");
  EXPECT_EQ(*config.Int("a"), 1);
  EXPECT_FALSE(config.Has("a.b"));
  const HfConfig again = Parse(config.ToJson());
  EXPECT_EQ(*again.Int("a"), 1);
  EXPECT_EQ(*again.Int("c.f"), 4);
}

TEST(HfConfigTest, NullIsAbsent) {
  const HfConfig config = Parse(R"({"window": null})");
  EXPECT_FALSE(config.Has("window"));
  EXPECT_TRUE(config.IsNull("window"));
  EXPECT_FALSE(config.IsNull("height"));
  EXPECT_EQ(config.IntOr("window", 7).value(), 7);
}

TEST(HfConfigTest, ScalarIsAListOfOne) {
  const HfConfig config = Parse(R"({"eos": 2, "eoses": [1, 2], "names": ["a"], "mixed": [1, "a"]})");
  EXPECT_THAT(config.Ints("eos").value(), ElementsAre(2));
  EXPECT_THAT(config.Ints("eoses").value(), ElementsAre(1, 2));
  EXPECT_THAT(config.Ints("none").value(), IsEmpty());
  EXPECT_THAT(config.Strings("names").value(), ElementsAre("a"));
  EXPECT_THAT(config.Ints("mixed").status().message(), HasSubstr(R"(mixed is [1, "a"])"));
}

TEST(HfConfigTest, ErrorsNameFieldAndValue) {
  const HfConfig config = Parse(R"({"layers": "many", "heads": 1.5, "list": [1]})");
  EXPECT_EQ(config.Int("layers").status().message(), R"(layers is "many": want an integer)");
  EXPECT_EQ(config.Int("heads").status().message(), "heads is 1.5: want an integer");
  EXPECT_EQ(config.Int("list").status().message(), "list is [1]: want an integer");
  EXPECT_EQ(config.Int("gone").status().message(), "gone is absent: want an integer");
  EXPECT_FALSE(config.IntOr("layers", 3).ok()) << "a wrong type is no absence";
}

TEST(HfConfigTest, RefusesWhatIsNoObject) {
  EXPECT_FALSE(HfConfig::Parse("").ok());
  EXPECT_FALSE(HfConfig::Parse("[]").ok());
  EXPECT_FALSE(HfConfig::Parse("{\"a\": ").ok());
  std::string deep;
  for (int i = 0; i < 1000; ++i) deep += R"({"a":)";
  deep += "1" + std::string(1000, '}');
  EXPECT_THAT(HfConfig::Parse(deep).status().message(), HasSubstr("nested too deeply"));
}

TEST(HfConfigTest, IntegersBeyondInt64AreNoIntegers) { EXPECT_FALSE(Parse(R"({"a": 18446744073709551615})").Int("a").ok()); }

}  // namespace
}  // namespace berth::model
