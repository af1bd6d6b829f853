#include "worker/text/grammar/grammar.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/text/golden.h"
#include "worker/loader/tokenizer_json.h"
#include "worker/text/grammar/matcher.h"
#include "worker/text/grammar/network.h"
#include "worker/text/grammar/tool_calls.h"
#include "worker/text/output_parser.h"

namespace berth::text {
namespace {

using testing::HasSubstr;

std::shared_ptr<const CompiledGrammar> Compile(const absl::StatusOr<Grammar>& grammar, const TokenTrie& trie) {
  EXPECT_TRUE(grammar.ok()) << grammar.status();
  auto compiled = CompiledGrammar::Make(*grammar, trie);
  EXPECT_TRUE(compiled.ok()) << compiled.status();
  return *compiled;
}

const TokenTrie& NoTokens() {
  static const auto* const trie = new TokenTrie;
  return *trie;
}

bool Matches(const absl::StatusOr<Grammar>& grammar, std::string_view text) {
  GrammarMatcher matcher(Compile(grammar, NoTokens()));
  return matcher.Accept(text) && matcher.complete();
}

std::string ErrorOf(const absl::StatusOr<Grammar>& grammar) {
  if (!grammar.ok()) return std::string(grammar.status().message());
  const auto compiled = CompiledGrammar::Make(*grammar, NoTokens());
  return compiled.ok() ? "" : std::string(compiled.status().message());
}

TEST(RegexGrammarTest, MatchesWholeTexts) {
  const auto date = ParseRegex(R"(^(\d{4})-(0[1-9]|1[0-2])$)");
  EXPECT_TRUE(Matches(date, "2024-12"));
  EXPECT_FALSE(Matches(date, "2024-13"));
  EXPECT_FALSE(Matches(date, "2024-1"));
  EXPECT_FALSE(Matches(date, "2024-12 "));
  EXPECT_TRUE(Matches(ParseRegex("(ab|a)*?c+"), "aababcc"));
  EXPECT_FALSE(Matches(ParseRegex("(ab|a)*c+"), "abb"));
  EXPECT_TRUE(Matches(ParseRegex("[^a-c\\d]{2,3}"), "x-"));
  EXPECT_FALSE(Matches(ParseRegex("[^a-c\\d]{2,3}"), "xyzz"));
  EXPECT_TRUE(Matches(ParseRegex(""), ""));
}

TEST(RegexGrammarTest, CharactersAreUtf8) {
  EXPECT_TRUE(Matches(ParseRegex("[à-ö一-龥😀]+"), "éô漢😀"));
  EXPECT_FALSE(Matches(ParseRegex("[à-ö]"), "a"));
  EXPECT_TRUE(Matches(ParseRegex("."), "\u07FF"));
  EXPECT_TRUE(Matches(ParseRegex("."), "\U0010FFFF"));
  EXPECT_FALSE(Matches(ParseRegex("."), "\n"));
  EXPECT_FALSE(Matches(ParseRegex("."), "\xC3"));          // half a character
  EXPECT_FALSE(Matches(ParseRegex("."), "\xED\xA0\x80"));  // a surrogate
}

TEST(RegexGrammarTest, NamesWhatIsWrong) {
  EXPECT_THAT(ErrorOf(ParseRegex("(ab")), HasSubstr("'(' without its ')' at byte 3"));
  EXPECT_THAT(ErrorOf(ParseRegex("ab)")), HasSubstr("')' without its '('"));
  EXPECT_THAT(ErrorOf(ParseRegex("[ab")), HasSubstr("without its ']'"));
  EXPECT_THAT(ErrorOf(ParseRegex("*a")), HasSubstr("'*' is not expected"));
  EXPECT_THAT(ErrorOf(ParseRegex("(?=a)")), HasSubstr("\"(?\""));
  EXPECT_THAT(ErrorOf(ParseRegex("\\bword")), HasSubstr("\\b is not supported"));
  EXPECT_THAT(ErrorOf(ParseRegex("a{3,1}")), HasSubstr("out of order"));
  EXPECT_THAT(ErrorOf(ParseRegex("a{99999}")), HasSubstr("10000 repeats"));
  EXPECT_THAT(ErrorOf(ParseRegex("((a{1000}){1000}){1000}")), HasSubstr("too large"));
  EXPECT_THAT(ErrorOf(ParseRegex(std::string(500, '('))), HasSubstr("too deeply"));
  EXPECT_THAT(ErrorOf(ParseRegex("\xFF")), HasSubstr("not UTF-8"));
  EXPECT_THAT(ErrorOf(ParseRegex("a[^\\s\\S]")), HasSubstr("no character matches at byte 8"));
  EXPECT_THAT(ErrorOf(ParseRegex("\\uD83D")), HasSubstr("no character matches at byte 6"));
}

TEST(RegexGrammarTest, CompilingHasALimitOfWork) {
  EXPECT_THAT(ErrorOf(ParseRegex("(){10000}{10000}{10000}")), HasSubstr("too large"));
  EXPECT_THAT(ErrorOf(ParseRegex("(x?){9000}")), HasSubstr("too large"));
  EXPECT_THAT(ErrorOf(ParseEbnf("root ::= \"a\" a b\na ::= \"x\" (){10000}{10000}{9}\nb ::= \"y\" (){10000}{10000}{9}")),
              HasSubstr("too large"));
}

TEST(EbnfGrammarTest, RulesMayReferToEachOtherAndToThemselves) {
  const auto sums = ParseEbnf(R"x(
      root  ::= sum            # a comment
      sum   ::= term ("+" term | "-" term)*
      term  ::= [0-9]+ | "(" sum ")"
  )x");
  EXPECT_TRUE(Matches(sums, "1+(2-(30+4))-5"));
  EXPECT_FALSE(Matches(sums, "1+(2-(30+4)-5"));
  EXPECT_FALSE(Matches(sums, "1+"));
  EXPECT_TRUE(Matches(ParseEbnf("root ::= \"\" | \"a\" root \"b\""), "aaabbb"));
  EXPECT_FALSE(Matches(ParseEbnf("root ::= \"\" | \"a\" root \"b\""), "aaabb"));
}

TEST(EbnfGrammarTest, NamesWhatIsWrong) {
  EXPECT_THAT(ErrorOf(ParseEbnf("a ::= \"x\"")), HasSubstr("no rule \"root\""));
  EXPECT_THAT(ErrorOf(ParseEbnf("root ::= other")), HasSubstr("\"other\" is not defined"));
  EXPECT_THAT(ErrorOf(ParseEbnf("root ::= \"a\"\nroot ::= \"b\"")), HasSubstr("defined twice"));
  EXPECT_THAT(ErrorOf(ParseEbnf("root ::= \"a")), HasSubstr("ends too early"));
  EXPECT_THAT(ErrorOf(ParseEbnf("root ::= empty root \"a\" | \"b\"\nempty ::= \"\"")),
              HasSubstr("\"root\" begins with itself"));
  EXPECT_THAT(ErrorOf(ParseEbnf("root ::= \"a\" b\nb ::= c \"x\" | \"y\"\nc ::= b")), HasSubstr("\"b\" begins with itself"));
  EXPECT_THAT(ErrorOf(ParseEbnf("root ::= [^\\s\\S]")), HasSubstr("no character matches at byte 16"));
  EXPECT_THAT(ErrorOf(ParseEbnf("root ::= \"\\uD83D\"")), HasSubstr("no character matches at byte 16"));
}

TEST(EbnfGrammarTest, RulesMayBeEmpty) {
  const auto grammar = ParseEbnf(R"x(
      root ::= (none pair)* none "." rest
      pair ::= none | "(" root ")" none
      none ::= "-"?
      rest ::= none none)x");
  for (const char* text : {".", "(.).", "-(-.)--.-", "((.)(.)-.).--", "-----."}) EXPECT_TRUE(Matches(grammar, text)) << text;
  for (const char* text : {"", "(.", "().", ".---", "(.))."}) EXPECT_FALSE(Matches(grammar, text)) << text;
}

// The most places where `text` may stand on its way.
size_t MostTops(const absl::StatusOr<Grammar>& grammar, std::string_view text) {
  const absl::StatusOr<Network> network = BuildNetwork(*grammar);
  GrammarStack stack(*network);
  GrammarStack::State state = stack.Start(), next;
  size_t most = 0;
  for (const char byte : text) {
    stack.Step(state, static_cast<uint8_t>(byte), next);
    std::swap(state, next);
    most = std::max(most, state.tops.size());
  }
  EXPECT_FALSE(state.tops.empty());
  return most;
}

std::string SixtyTrees() {
  std::string grammar = "root ::=";
  for (int i = 0; i < 60; ++i) absl::StrAppend(&grammar, " tree");
  return absl::StrCat(grammar, " \".\"\ntree ::= \"x\" tree tree | \"x\"");
}

// The ways to read a text multiply; the places where it may stand do not.
TEST(AmbiguousGrammarTest, WaysThatMeetAreFollowedOnce) {
  const auto trees = ParseEbnf(SixtyTrees());
  EXPECT_LT(MostTops(trees, std::string(40, 'x')), 1000);
  EXPECT_TRUE(Matches(trees, std::string(60, 'x') + "."));
  EXPECT_FALSE(Matches(trees, std::string(61, 'x') + "."));
  EXPECT_TRUE(Matches(trees, std::string(62, 'x') + "."));

  const auto schema = ParseJsonSchema(R"({"$ref": "#/$defs/E", "$defs": {
      "E": {"anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}, {"type": "null"}]},
      "A": {"properties": {"l": {"$ref": "#/$defs/E"}, "a": {"type": "null"}}, "required": ["l", "a"]},
      "B": {"properties": {"l": {"$ref": "#/$defs/E"}, "b": {"type": "null"}}, "required": ["l", "b"]}}})");
  std::string deep;
  for (int i = 0; i < 16; ++i) deep += R"({"l":)";
  EXPECT_LT(MostTops(schema, deep), 100);
  EXPECT_TRUE(Matches(schema, R"({"l":{"l":{"l":null,"b":null},"a":null},"b":null})"));
  EXPECT_FALSE(Matches(schema, R"({"l":{"l":{"l":null,"b":null},"c":null},"b":null})"));
}

TEST(AmbiguousGrammarTest, AnOutputThatTakesTooMuchWorkEnds) {
  GrammarMatcher matcher(Compile(ParseEbnf(SixtyTrees()), NoTokens()));
  EXPECT_TRUE(matcher.Accept(std::string(100, 'x')));
  EXPECT_FALSE(matcher.Accept(std::string(10'000, 'x')));
  uint32_t mask = ~0u;
  matcher.FillMask({&mask, 1});
  EXPECT_EQ(mask, 0u);
  EXPECT_FALSE(matcher.complete());
}

TEST(JsonSchemaTest, ObjectsHaveTheirMembersInOrder) {
  const auto schema = ParseJsonSchema(R"({"type": "object", "additionalProperties": false, "required": ["name"],
      "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "tags": {"type": "array", "items": {"enum": ["a", 1]}}}})");
  EXPECT_TRUE(Matches(schema, R"({"name": "Ada", "age": 36, "tags": ["a", 1]})"));
  EXPECT_TRUE(Matches(schema, "{\"name\":\"\\u00e9\\n\",\n\t\"tags\":[ ] }"));
  EXPECT_TRUE(Matches(schema, R"({"name":"x"})"));
  EXPECT_FALSE(Matches(schema, R"({"age": 36})"));
  EXPECT_FALSE(Matches(schema, R"({"name": "x", "other": 1})"));
  EXPECT_FALSE(Matches(schema, R"({"name": "x",})"));
  EXPECT_FALSE(Matches(schema, R"({"name": "x", "tags": ["b"]})"));
  EXPECT_FALSE(Matches(schema, "{\"name\": \"a\nb\"}"));
}

TEST(JsonSchemaTest, OptionalMembersAndOthers) {
  const auto schema =
      ParseJsonSchema(R"({"properties": {"a": {"const": 1}, "b": {"const": 2}}, "additionalProperties": {"type": "null"}})");
  for (const char* text : {"{}", R"({"a":1})", R"({"b":2})", R"({"a":1,"b":2,"c":null})", R"({"c":null,"d":null})"}) {
    EXPECT_TRUE(Matches(schema, text)) << text;
  }
  for (const char* text : {R"({,"a":1})", R"({"a":1 "b":2})", R"({"c":1})", R"({"b":2,"a":1})"}) {
    EXPECT_FALSE(Matches(schema, text)) << text;
  }
}

TEST(JsonSchemaTest, OtherMembersHaveOtherNames) {
  const auto schema = ParseJsonSchema(R"({"properties": {"age": {"type": "integer"}, "é\n/": {}, "": {}, "a\u0001": {}},
      "additionalProperties": true})");
  for (const char* text : {R"({"age": 1, "name": "Bob"})", R"({"ag": "x", "agé": 1, "ages": 1, "é": 1, "é\n": 1, "\n": "\""})",
                           R"({"é\n/": 1, "": 2, "x": 1})"}) {
    EXPECT_TRUE(Matches(schema, text)) << text;
  }
  for (const char* text : {R"({"name": "Bob", "age": "forty two"})", R"({"age": 1, "age": "one"})",
                           R"({"x": 1, "a\u0067e": "x"})", R"({"x": 1, "é\n/": 1})", R"({"x": 1, "é\n\/": 1})",
                           R"({"x": 1, "": 1})", R"({"a\u0001": 1, "a\u0001": 1})", "{\"x\xC3\": 1}", R"({"x: 1})"}) {
    EXPECT_FALSE(Matches(schema, text)) << text;
  }
  EXPECT_THAT(ErrorOf(ParseJsonSchema(
                  absl::StrCat("{\"additionalProperties\": true, \"properties\": {\"", std::string(30'000, 'n'), "\": {}}}"))),
              HasSubstr("#/additionalProperties: beside properties whose names"));
}

TEST(JsonSchemaTest, RefersIntoItself) {
  const auto list = ParseJsonSchema(R"({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "required": ["next"],
      "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}, "additionalProperties": false}}})");
  EXPECT_TRUE(Matches(list, R"({"next": {"next": {"next": null}}})"));
  EXPECT_FALSE(Matches(list, R"({"next": {"next": {"next": null}})"));
}

TEST(JsonSchemaTest, FormatsOfStrings) {
  struct Case {
    const char* format;
    std::vector<std::string> good, bad;
  };
  const Case cases[] = {
      {"date", {"2024-02-29", "1999-12-31"}, {"2024-13-01", "2024-1-1", "24-01-01"}},
      {"time", {"23:59:60Z", "00:00:00.25+05:30"}, {"24:00:00Z", "12:30Z", "12:30:00"}},
      {"date-time", {"2024-02-29T12:30:00Z", "2024-02-29T12:30:00.5-08:00"}, {"2024-02-29 12:30:00Z", "2024-02-29"}},
      {"duration", {"P1Y2M3DT4H5M6S", "PT5M", "P3W"}, {"P", "5M", "P1S"}},
      {"email", {"a.b+c@example.org"}, {"a@b", "@example.org", "a b@example.org"}},
      {"hostname", {"a", "www.example.org"}, {"-a", "a..b", ""}},
      {"ipv4", {"0.0.0.0", "192.168.255.1"}, {"256.1.1.1", "1.2.3", "01.2.3.4"}},
      {"ipv6", {"2001:db8:0:0:0:0:0:1"}, {"2001:db8", "g:0:0:0:0:0:0:1"}},
      {"uuid", {"123e4567-e89b-12d3-a456-426614174000"}, {"123e4567", "123e4567-e89b-12d3-a456-42661417400g"}},
  };
  for (const Case& c : cases) {
    const auto grammar = ParseJsonSchema(nlohmann::json{{"type", "string"}, {"format", c.format}}.dump());
    for (const std::string& text : c.good) EXPECT_TRUE(Matches(grammar, absl::StrCat("\"", text, "\""))) << c.format << text;
    for (const std::string& text : c.bad) EXPECT_FALSE(Matches(grammar, absl::StrCat("\"", text, "\""))) << c.format << text;
  }
}

TEST(JsonSchemaTest, StringsAndArraysWithLimits) {
  EXPECT_TRUE(Matches(ParseJsonSchema(R"({"type": "string", "minLength": 1, "maxLength": 3})"), "\"äöü\""));
  EXPECT_FALSE(Matches(ParseJsonSchema(R"({"type": "string", "minLength": 1, "maxLength": 3})"), "\"abcd\""));
  EXPECT_TRUE(Matches(ParseJsonSchema(R"({"type": "string", "pattern": "^[A-Z]{3}$"})"), "\"ABC\""));
  EXPECT_EQ(ErrorOf(ParseJsonSchema(R"({"type": "string", "maxLength": 1400})")), "");
  const auto pair = ParseJsonSchema(R"({"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2})");
  EXPECT_TRUE(Matches(pair, "[1, -2.5e3]"));
  EXPECT_FALSE(Matches(pair, "[1]"));
  EXPECT_FALSE(Matches(pair, "[1,2,3]"));
}

TEST(JsonSchemaTest, StringsHoldCharactersAndNoHalves) {
  const auto any = ParseJsonSchema(R"({"type": "string"})");
  for (const char* text : {R"("\ud83d\ude00")", R"("\u00e9\uD7ff\uE000\uffff")"}) EXPECT_TRUE(Matches(any, text)) << text;
  for (const char* text : {R"("\ud800")", R"("\ude00")", R"("\ud83d\n")", R"("\ud83d\u0041")"})
    EXPECT_FALSE(Matches(any, text)) << text;
  EXPECT_FALSE(Matches(ParseJsonSchema(R"({"type": "string", "minLength": 2})"), R"("\ud83d\ude00")"));
  EXPECT_TRUE(Matches(ParseJsonSchema(R"({"type": "string", "minLength": 2})"), R"("\ud83d\ude00x")"));
}

TEST(JsonSchemaTest, AnyObject) {
  EXPECT_TRUE(Matches(JsonObjectGrammar(), R"({"a": [1, {"b": null}, "c"], "d": {}})"));
  EXPECT_FALSE(Matches(JsonObjectGrammar(), "[1]"));
}

TEST(JsonSchemaTest, APatternIsOfTheTextAndItsJsonIsEscaped) {
  const auto pattern = [](const std::string& text) {
    return ParseJsonSchema(nlohmann::json{{"type", "string"}, {"pattern", text}}.dump());
  };
  EXPECT_TRUE(Matches(pattern(R"(^["x]{3}$)"), R"("\"x\"")"));
  EXPECT_FALSE(Matches(pattern(R"(^["x]{3}$)"), R"(""x"")"));
  EXPECT_TRUE(Matches(pattern(R"(a\\b)"), R"("a\\b")"));
  EXPECT_FALSE(Matches(pattern(R"(a\\b)"), R"("a\b")"));
  EXPECT_TRUE(Matches(pattern("[^a-z]{3}"), R"("\nA\t")"));
  for (const char* raw : {"\n", "\t", "\"", "\\", "\x01"}) {
    EXPECT_FALSE(Matches(pattern("[^a-z]"), absl::StrCat("\"", raw, "\""))) << raw;
    EXPECT_FALSE(Matches(pattern("."), absl::StrCat("\"", raw, "\""))) << raw;
  }
  EXPECT_FALSE(Matches(pattern("."), R"("\n")"));
  EXPECT_TRUE(Matches(pattern(".+"), "\"\xC3\xA9 \\\\\""));
  EXPECT_THAT(ErrorOf(pattern("a\x01")), HasSubstr("control character"));
  EXPECT_THAT(ErrorOf(pattern("[\\uD83C-\\uDBFF]")), HasSubstr("#: regular expression: no character matches at byte 15"));
}

TEST(JsonSchemaTest, WhatWouldRestrictAValueIsNotPassedOver) {
  const auto error = [](std::string_view schema) { return ErrorOf(ParseJsonSchema(schema)); };
  const auto values = ParseJsonSchema(R"({"type": ["integer", "null"], "enum": ["a", 1, null, 1.5], "title": "t"})");
  for (const char* text : {"1", "null"}) EXPECT_TRUE(Matches(values, text)) << text;
  for (const char* text : {"\"a\"", "1.5"}) EXPECT_FALSE(Matches(values, text)) << text;
  EXPECT_TRUE(Matches(ParseJsonSchema(R"({"type": "array", "const": [1, "b"]})"), R"([1,"b"])"));
  EXPECT_THAT(error(R"({"type": "integer", "enum": ["a"]})"), HasSubstr("#/enum: has no \"integer\""));
  EXPECT_THAT(error(R"({"type": "boolean", "const": 1})"), HasSubstr("#/const: has no \"boolean\""));
  EXPECT_THAT(error(R"({"enum": ["a"], "minLength": 2})"), HasSubstr("#/minLength: beside \"enum\""));
  EXPECT_THAT(error(R"({"$ref": "#/$defs/a", "maximum": 3, "$defs": {"a": {"type": "integer"}}})"),
              HasSubstr("#/maximum: beside \"$ref\""));
  EXPECT_THAT(error(R"({"type": "object", "anyOf": [{"type": "object"}]})"), HasSubstr("#/type: beside \"anyOf\""));
  const auto untyped = ParseJsonSchema(R"({"items": {"minLength": 2}, "maxItems": 1})");
  EXPECT_TRUE(Matches(untyped, R"(["ab"])"));
  for (const char* text : {R"(["a"])", R"(["ab", "cd"])"}) EXPECT_FALSE(Matches(untyped, text)) << text;
  EXPECT_TRUE(ParseJsonSchema(R"({"anyOf": [{"$ref": "#/$defs/a", "description": "d"}], "default": 1,
      "$defs": {"a": {"type": "integer"}}})")
                  .ok());
}

TEST(JsonSchemaTest, NamesWhatIsWrong) {
  const auto error = [](std::string_view schema) { return ErrorOf(ParseJsonSchema(schema)); };
  EXPECT_THAT(error("{"), HasSubstr("not JSON"));
  EXPECT_THAT(error(R"({"properties": {"a": {"type": "float"}}})"), HasSubstr("#/properties/a/type: unknown type \"float\""));
  EXPECT_THAT(error(R"({"type": "array", "uniqueItems": true})"), HasSubstr("#/uniqueItems: is not supported"));
  EXPECT_THAT(error(R"({"type": "string", "format": "uri"})"), HasSubstr("#/format: unknown format \"uri\""));
  EXPECT_THAT(error(R"({"$ref": "#/$defs/none"})"), HasSubstr("refers to nothing"));
  EXPECT_THAT(error(R"({"$ref": "http://a/b"})"), HasSubstr("out of the document"));
  EXPECT_THAT(error(R"({"type": "object", "required": ["a"]})"), HasSubstr("\"a\" is not among the properties"));
  EXPECT_THAT(error(R"({"type": "string", "pattern": "(a"})"), HasSubstr("without its ')'"));
  EXPECT_THAT(error(R"({"$ref": "#"})"), HasSubstr("begins with itself"));
}

std::string Nested(int depth) { return std::string(depth, '[') + std::string(depth, ']'); }

TEST(JsonSchemaTest, DeepNestingIsAnError) {
  for (const char* keyword : {"const", "items", "type", "minimum", "examples"}) {
    EXPECT_THAT(ErrorOf(ParseJsonSchema(absl::StrCat("{\"", keyword, "\":", Nested(100'000), "}"))),
                HasSubstr("nested deeper than"));
  }
  EXPECT_TRUE(Matches(ParseJsonSchema(absl::StrCat("{\"const\":", Nested(50), "}")), Nested(50)));
  EXPECT_EQ(ErrorOf(ParseJsonSchema(absl::StrCat(R"({"const": "\")", std::string(1000, '['), "\"}"))), "");
}

TEST(JsonSchemaTest, AChainOfReferencesIsFollowed) {
  const auto chain = [](int length) {
    std::string defs = R"("d0": {"type": "null"})";
    for (int i = 1; i <= length; ++i) absl::StrAppend(&defs, ", \"d", i, R"(": {"$ref": "#/$defs/d)", i - 1, "\"}");
    return absl::StrCat(R"({"$ref": "#/$defs/d)", length, "\", \"$defs\": {", defs, "}}");
  };
  EXPECT_TRUE(Matches(ParseJsonSchema(chain(1'000)), "null"));
  EXPECT_THAT(ErrorOf(ParseJsonSchema(chain(6'000))), HasSubstr("more than 5000 references"));
  EXPECT_THAT(ErrorOf(ParseJsonSchema(chain(20'000))), HasSubstr("more than 20000 members"));
}

constexpr char kWeather[] = R"({"type": "function", "function": {"name": "weather", "parameters": {"type": "object",
    "properties": {"city": {"type": "string"}}, "required": ["city"], "additionalProperties": false}}})";
constexpr char kTime[] = R"({"type": "function", "function": {"name": "time"}})";

TEST(ToolCallGrammarTest, HoldsCallsToTheirToolsInEveryFormat) {
  for (const ToolFormat format : {ToolFormat::kHermes, ToolFormat::kLlama3, ToolFormat::kInternLm2, ToolFormat::kMistral}) {
    const CallSpelling spelling = SpellingOf(format);
    const auto call = [&](const char* name, const char* arguments) {
      return absl::StrCat(name, spelling.arguments, arguments);
    };
    const auto any = ToolCallGrammar(format, {kWeather, kTime}, "");
    const std::string weather = call("weather", " {\"city\": \"Rom\"}"), time = call("time", "{\"zone\": [1]}");
    EXPECT_TRUE(Matches(any, absl::StrCat(weather, spelling.end))) << spelling.begin;
    EXPECT_EQ(Matches(any, absl::StrCat(time, spelling.next, weather, spelling.end)), !spelling.next.empty());
    EXPECT_FALSE(Matches(any, weather));
    EXPECT_FALSE(Matches(any, absl::StrCat(call("weather", " {}"), spelling.end)));
    EXPECT_FALSE(Matches(any, absl::StrCat(call("wind", " {}"), spelling.end)));
    EXPECT_FALSE(Matches(any, absl::StrCat(call("time", " 3"), spelling.end)));
    const auto named = ToolCallGrammar(format, {kWeather, kTime}, "time");
    EXPECT_TRUE(Matches(named, absl::StrCat(" {}", spelling.end)));
    EXPECT_FALSE(Matches(named, absl::StrCat(" {}", spelling.next, "{}", spelling.end)));
  }
}

// What the grammar lets through is read as calls.
TEST(ToolCallGrammarTest, EveryFormatIsReadAgain) {
  for (const ToolFormat format : {ToolFormat::kHermes, ToolFormat::kLlama3, ToolFormat::kInternLm2, ToolFormat::kMistral}) {
    const CallSpelling spelling = SpellingOf(format);
    std::string text = absl::StrCat(CallOpening(format, "f"), "{}");
    if (!spelling.next.empty()) absl::StrAppend(&text, spelling.next, "f", spelling.arguments, "{}");
    OutputParser parser({.tools = format}, false, {"f"});
    std::vector<OutputPiece> pieces;
    parser.Append(absl::StrCat(text, spelling.end), pieces);
    parser.Finish(pieces);
    EXPECT_EQ(pieces.size(), spelling.next.empty() ? 2 : 4) << text;
    EXPECT_EQ(pieces.back().text, "{}") << text;
  }
}

TEST(ToolCallGrammarTest, WhatNoGrammarCanSayIsAnObjectUnlessStrict) {
  const auto tool = [](const char* more) {
    return absl::StrCat(R"({"function": {"name": "f", "parameters": {"type": "array", "uniqueItems": true})", more, "}}");
  };
  EXPECT_TRUE(Matches(ToolCallGrammar(ToolFormat::kLlama3, {tool("")}, "f"), "{\"a\": 1}}"));
  EXPECT_THAT(ErrorOf(ToolCallGrammar(ToolFormat::kLlama3, {tool(R"(, "strict": true)")}, "f")),
              HasSubstr("tool \"f\": JSON schema #/uniqueItems: is not supported"));
}

TEST(ToolCallGrammarTest, DeepParametersAreAnError) {
  const std::string tool = absl::StrCat(R"({"function": {"name": "f", "parameters": {"const": )", Nested(100'000), "}}}");
  EXPECT_THAT(ErrorOf(ToolCallGrammar(ToolFormat::kLlama3, {tool}, "f")), HasSubstr("nested deeper than"));
}

std::unique_ptr<Tokenizer> GoldenTokenizer() {
  auto data = loader::ParseTokenizerJson(ReadGolden("qwen2.json"), "");
  EXPECT_TRUE(data.ok()) << data.status();
  return *MakeTokenizer(*std::move(data));
}

std::vector<int32_t> Bits(absl::Span<const uint32_t> mask) {
  std::vector<int32_t> ids;
  for (size_t id = 0; id < mask.size() * 32; ++id) {
    if ((mask[id / 32] >> (id % 32) & 1) != 0) ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

// make_masks.py has what xgrammar allows.
TEST(TokenMaskGoldenTest, AllowsWhatXgrammarAllows) {
  const auto tokenizer = GoldenTokenizer();
  const TokenTrie trie(*tokenizer);
  std::vector<uint32_t> mask((tokenizer->size() + 31) / 32);
  for (const auto& test : nlohmann::json::parse(ReadGolden("masks.json"))) {
    const std::string source = test["source"], kind = test["kind"];
    GrammarMatcher matcher(Compile(kind == "regex"  ? ParseRegex(source)
                                   : kind == "ebnf" ? ParseEbnf(source)
                                                    : ParseJsonSchema(source),
                                   trie));
    for (size_t step = 0; step < test["steps"].size(); ++step) {
      matcher.FillMask(absl::MakeSpan(mask));
      EXPECT_EQ(GoldenHash(Bits(mask)), test["steps"][step][0]) << source << ", step " << step;
      EXPECT_EQ(matcher.complete(), test["steps"][step][1]) << source << ", step " << step;
      if (step < test["ids"].size()) {
        ASSERT_TRUE(matcher.Accept(tokenizer->TokenBytes(test["ids"][step], false)));
      }
    }
  }
}

// A mask holds exactly the tokens whose bytes go on from here.
class TokenMaskTest : public testing::TestWithParam<const char*> {};

TEST_P(TokenMaskTest, AllowsExactlyWhatMatches) {
  const auto tokenizer = GoldenTokenizer();
  const TokenTrie trie(*tokenizer);
  const std::string source = GetParam();
  const auto grammar = Compile(source[0] == '{'                    ? ParseJsonSchema(source)
                               : source.find("::=") != source.npos ? ParseEbnf(source)
                                                                   : ParseRegex(source),
                               trie);
  std::mt19937 random(7);
  std::vector<uint32_t> mask((tokenizer->size() + 31) / 32);
  for (int walk = 0; walk < 3; ++walk) {
    GrammarMatcher matcher(grammar);
    for (int step = 0; step < 12; ++step) {
      matcher.FillMask(absl::MakeSpan(mask));
      const std::vector<int32_t> allowed = Bits(mask);
      std::optional<GrammarMatcher> ahead(matcher);
      for (int32_t id = 0; id < tokenizer->size(); ++id) {
        const bool bit = (mask[id / 32] >> (id % 32) & 1) != 0;
        const std::string_view bytes = tokenizer->TokenBytes(id, false);
        const bool goes_on = !tokenizer->IsSpecial(id) && !bytes.empty() && ahead->Accept(bytes);
        ASSERT_EQ(bit, goes_on) << bytes << " at step " << step;
        if (goes_on) ahead.emplace(matcher);
      }
      if (allowed.empty()) break;
      ASSERT_TRUE(matcher.Accept(tokenizer->TokenBytes(allowed[random() % allowed.size()], false)));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Grammars, TokenMaskTest,
    testing::Values(
        "[a-z]{1,8}( [a-z]+)*\\.", "[a-z ]{0,20}", "a{0,150}", "x{3}.{2,12}x",
        "root ::= item{1,9}\nitem ::= [a-z] [a-z]? | \" \"",
        "root ::= \"p\" (\"a\" | none){300} \"b\" | \"q\" (\"a\" | none){300} \"c\"\nnone ::= [0-9]?",
        R"({"type": "string", "maxLength": 14})", "(yes|no|maybe)", ".*", "root ::= \"(\" root \")\" root | [a-z ]*",
        R"({"type": "object"})",
        "root ::= (none pair)* none rest\npair ::= none | [a-z] root \" \" none\nnone ::= \"-\"?\nrest ::= none none",
        "root ::= tree tree tree \".\"\ntree ::= [a-z] tree tree | [a-z]",
        R"({"properties": {"age": {"type": "null"}, "an\n": {"type": "null"}}, "additionalProperties": true})",
        R"({"items": {"type": "number", "multipleOf": 0.25, "exclusiveMinimum": -0.5, "maximum": 1234.5}})",
        R"({"properties": {"name": {"type": "string"}, "n": {"type": "array", "items": {"type": "integer"}}}})"));

}  // namespace
}  // namespace berth::text
