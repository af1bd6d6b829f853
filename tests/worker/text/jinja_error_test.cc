#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "worker/text/chat_template.h"

namespace berth::text {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

absl::StatusOr<std::string> Render(const std::string& source, const std::vector<ChatMessage>& messages = {{"user", "hi"}},
                                   const RenderOptions& options = {}) {
  auto parsed = ParseChatTemplate(source, "<s>", "</s>");
  if (!parsed.ok()) return parsed.status();
  return (*parsed)->Render(messages, options);
}

std::string ParseError(const std::string& source) {
  auto parsed = ParseChatTemplate(source, "", "");
  EXPECT_FALSE(parsed.ok()) << source;
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument) << source;
  return std::string(parsed.status().message());
}

TEST(JinjaErrorTest, UnsupportedConstructsAreNamedWithTheirLineWhenParsing) {
  const std::pair<const char*, const char*> cases[] = {
      {"a\nb\n{% include 'x' %}", "template line 3: the statement 'include' is not supported"},
      {"{% import 'x' as y %}", "template line 1: the statement 'import' is not supported"},
      {"\n{% block x %}{% endblock %}", "template line 2: the statement 'block' is not supported"},
      {"{% filter upper %}x{% endfilter %}", "the statement 'filter' is not supported"},
      {"{% for a in b recursive %}{% endfor %}", "template line 1: recursive loops are not supported"},
      {"{% set x | upper %}{% endset %}", "filters on a set block are not supported"},
      {"\n\n{{ x | urlize }}", "template line 3: the filter 'urlize' is not supported"},
      {"{% if false %}\n{{ x | pprint }}{% endif %}", "template line 2: the filter 'pprint' is not supported"},
      {"{{ x is\nescaped }}", "the test 'escaped' is not supported"},
      {"{{ '{}'.format(1) }}", "template line 1: the method 'format' is not supported"},
      {"{{ messages.append(1) }}", "the method 'append' is not supported"},
      {"{{ f(*messages) }}", "unpacking arguments with '*' is not supported"},
      {"{{ f(**messages) }}", "unpacking arguments with '**' is not supported"},
      {"{{ 0x10 }}", "numbers in another base than ten are not supported"},
      {"{{ '\\N{DASH}' }}", "the escape '\\N' in a string is not supported"},
      {"{{ '\\ud800' }}", "bad escape '\\u' in a string"},
      {"{{ 9999999999999999999 }}", "the number 9999999999999999999 is beyond 64 bits"},
  };
  for (const auto& [source, message] : cases) EXPECT_THAT(ParseError(source), HasSubstr(message)) << source;
}

TEST(JinjaErrorTest, SyntaxErrorsNameTheirLine) {
  const std::pair<const char*, const char*> cases[] = {
      {"x\n{% if a %}\nb", "template line 2: missing 'endif'"},
      {"{{ a b }}", "template line 1: unexpected 'b', expected '}}'"},
      {"\n{{ }}", "template line 2: unexpected end of print, expected an expression"},
      {"\n\n{# x", "template line 3: missing end of comment"},
      {"{% raw %}x", "missing end of raw block"},
      {"{{ 'x }}", "missing end of string"},
      {"{{ (1] }}", "unexpected ']'"},
      {"\n{{ ä$ }}", "template line 2: unexpected character '$'"},
      {"{% break %}", "'break' outside a loop"},
      {"{% for x in y %}{% macro m() %}{% continue %}{% endmacro %}{% endfor %}", "'continue' outside a loop"},
      {"{% endfor %}", "the statement 'endfor' is not supported here"},
      {"{{ f(a=1, 2) }}", "a positional argument follows a keyword argument"},
      {"{% set true = 1 %}", "cannot assign to 'true'"},
  };
  for (const auto& [source, message] : cases) EXPECT_THAT(ParseError(source), HasSubstr(message)) << source;
  EXPECT_THAT(ParseError("\xff"), HasSubstr("not UTF-8"));
}

TEST(JinjaErrorTest, RaiseExceptionGivesTheTemplatesOwnWords) {
  const auto text = Render("a\n{{ raise_exception('Roles must alternate: ' ~ messages[0].role) }}");
  EXPECT_EQ(text.status(), absl::InvalidArgumentError("Roles must alternate: user"));
}

TEST(JinjaErrorTest, RenderErrorsNameTheLineAndTheThing) {
  const std::pair<const char*, const char*> cases[] = {
      {"\n{{ nobody.name }}", "template line 2: 'nobody' is undefined"},
      {"{{ messages[0].name.first }}", "template line 1: 'dict object' has no attribute 'name'"},
      {"{{ messages[7].role }}", "list object' has no element 7"},
      {"\n\n{{ 'a' + 1 }}", "template line 3: unsupported operand types for +: 'str' and 'int'"},
      {"{{ messages.append }}", "the method 'append' of 'list' is not supported"},
      {"{{ 9223372036854775807 + 1 }}", "the result of + is beyond 64 bits"},
      {"{{ namespace(_x=1) }}", "begins with '_'"},
      {"{% set ns = namespace() %}{% set ns.__class__ = 1 %}", "begins with '_'"},
      {"{{ range }}", "a value of type function cannot be printed"},
      {"{{ messages | map('nonsense') | list }}", "the filter 'nonsense' is not supported"},
      {"{{ 'a' | replace('b') }}", "replace misses its argument 'new'"},
      {"{{ 'a' | trim('b', 'c') }}", "trim takes at most 1 arguments, not 2"},
      {"{{ 'a' | trim(nonsense=1) }}", "trim has no argument 'nonsense'"},
      {"{{ 'a' | trim('a', chars='b') }}", "trim got its argument 'chars' twice"},
      {"{{ '12' | int(base=16) }}", "a base other than ten is not supported"},
      {"{% for x in [1] %}{{ loop.changed(1) }}{% endfor %}", "loop.changed is not supported"},
      {"{{ strftime_now(1) }}", "strftime_now: the format is of type int, not a string"},
      {"{{ 1() }}", "a value of type int cannot be called"},
  };
  for (const auto& [source, message] : cases) {
    const auto text = Render(source);
    EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument) << source;
    EXPECT_THAT(std::string(text.status().message()), HasSubstr(message)) << source;
  }
}

TEST(JinjaErrorTest, BadInputsAreNamed) {
  EXPECT_THAT(Render("", {{"user", "\xc3"}}).status().message(), HasSubstr("not UTF-8"));
  EXPECT_THAT(std::string(Render("", {}, {.variables = {{"tools", "[1,"}}}).status().message()),
              HasSubstr("the template variable 'tools' is not JSON"));
  EXPECT_THAT(std::string(Render("", {}, {.variables = {{"n", "9999999999999999999"}}}).status().message()),
              HasSubstr("the template variable 'n': a JSON integer is beyond 64 bits"));
  std::string keys = "{";  // refused before it is parsed: it does not end as JSON does
  for (int i = 0; i < 300000; ++i) absl::StrAppend(&keys, "\"", i, "\":0,");
  EXPECT_EQ(Render("", {{.role = "user", .fields = {{"tool_calls", keys}}}}).status().message(),
            "the template variable 'tool_calls' has objects of too many keys: at most 1024 in one, fewer in each of several");
  const std::string deep = std::string(5000, '[') + std::string(5000, ']');
  EXPECT_EQ(Render("", {{.role = "user", .fields = {{"tool_calls", deep}}}}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(JinjaErrorTest, FieldsOfAMessageReachTheTemplate) {
  const ChatMessage message{.role = "assistant", .content = "unused", .fields = {{"content", "null"}, {"name", "\"bob\""}}};
  EXPECT_EQ(
      Render("{% for m in messages %}{{ m.role }}{{ m.content is none }}{{ m.name }}{{ m | tojson }}{% endfor %}", {message})
          .value(),
      "assistantTruebob{\"role\": \"assistant\", \"content\": null, \"name\": \"bob\"}");
}

TEST(JinjaErrorTest, ClockIsUtc) {
  const RenderOptions options{.clock = absl::FromUnixSeconds(86400 * 365)};
  EXPECT_EQ(Render("{{ strftime_now('%d %b %Y %H:%M') }}", {}, options).value(), "01 Jan 1971 00:00");
}

// Templates that would run for ever, fill the memory or overflow the stack.
TEST(JinjaLimitTest, HostileTemplatesEndInAnError) {
  const std::string parentheses = "{{ " + std::string(100000, '(') + std::string(100000, ')') + " }}";
  std::string blocks, ends, sum = "{{ 1", attributes = "{{ a", filters = "{{ 1", not_not = "{{ ", maps = "{{ 'a' | map(";
  for (int i = 0; i < 20000; ++i) {
    blocks += "{% if 1 %}";
    ends += "{% endif %}";
    sum += " + 1";
    attributes += ".a";
    filters += " | string";
    not_not += "not ";
    maps += "'map', ";
  }
  for (const std::string& source :
       {parentheses, blocks + ends, sum + " }}", attributes + " }}", filters + " }}", not_not + "1 }}", maps + "'upper') }}",
        "{{ " + std::string(100000, '[') + std::string(100000, ']') + " }}", "{{ " + std::string(100000, '-') + "1 }}",
        "{% set " + std::string(100000, '(') + "x = 1 %}"}) {
    EXPECT_EQ(Render(source).status().code(), absl::StatusCode::kInvalidArgument) << source.substr(0, 40);
  }
  const char* exhausting[] = {
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% macro m(n) %}{{ m(n) }}{{ m(n) }}{% endmacro %}{{ m(1) }}",
      "{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}",
      "{% for a in range(2000) %}{% for b in range(2000) %}{% endfor %}{% endfor %}",
      "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
      "{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
      "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
      "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
      "{% set ns = namespace(s=[1]) %}{% for i in range(1000) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}",
      "{% set ns = namespace(s={}) %}{% for i in range(1000) %}{% set ns.s = {'a': ns.s} %}{% endfor %}",
      "{% set s = 'x' * 1000 %}{% for i in range(20000) %}{{ s }}{% endfor %}",
      "{{ 'x' * 1000000000000 }}",
      "{{ 'x' * 10000000 * 10 }}",
      "{% set s = 'x' * 1000000 %}{{ s | replace('x', s) }}",
      "{% set s = 'x' * 1000000 %}{{ s.replace('', s) }}",
      "{% set s = 'x' * 1000000 %}{{ s | join(s) }}",
      "{{ ('\\n' * 1000000) | indent(1000000) }}",
      "{{ range(0, 9223372036854775807) }}",
  };
  for (const char* source : exhausting) {
    EXPECT_EQ(Render(source).status().code(), absl::StatusCode::kResourceExhausted) << source << Render(source).status();
  }
}

TEST(JinjaLimitTest, CyclesOfNamespacesAreFreed) {
  // LeakSanitizer is the judge.
  EXPECT_EQ(
      Render(
          "{% set ns = namespace() %}{% set ns.me = [ns] %}{% macro m() %}{% set ns.m = m %}{{ ns.me | length }}{% endmacro %}"
          "{{ m() }}")
          .value(),
      "1");
  EXPECT_TRUE(
      Render("{% set ns = namespace() %}{% for i in range(50000) %}{% set ns.x = namespace(x=ns.x) %}{% endfor %}").ok());
}

TEST(JinjaLimitTest, ALongConversationRenders) {
  std::vector<ChatMessage> messages;
  for (int i = 0; i < 1000; ++i) messages.push_back({i % 2 == 0 ? "user" : "assistant", std::string(5000, 'x')});
  const auto text =
      Render("{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] | trim + '</s>' }}{% endfor %}", messages);
  EXPECT_GT(text.value().size(), 5000000u);
}

}  // namespace
}  // namespace berth::text
