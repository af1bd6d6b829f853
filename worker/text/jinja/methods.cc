#include <algorithm>
#include <string>

#include "base/status.h"
#include "worker/text/jinja/arguments.h"
#include "worker/text/jinja/builtins.h"
#include "worker/text/jinja/cat.h"
#include "worker/text/jinja/operators.h"
#include "worker/text/jinja/strings.h"
#include "worker/text/jinja/unicode.h"

namespace berth::text::jinja {
namespace {

using Method = absl::StatusOr<Value> (*)(Runtime& runtime, const Value& self, const Arguments& arguments);

absl::StatusOr<Value> ListOf(std::vector<std::string> parts) {
  std::vector<Value> items;
  for (std::string& part : parts) items.emplace_back(std::move(part));
  return MakeList(std::move(items));
}

template <std::string (*map)(std::string_view)>
absl::StatusOr<Value> Map(Runtime& runtime, const Value& self, const Arguments& arguments) {
  if (const auto bound = Bind("the method", arguments, {}); !bound.ok()) return bound.status();
  return Value(map(*self.string()));
}

template <bool left, bool right>
absl::StatusOr<Value> Strip(Runtime& runtime, const Value& self, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("strip", arguments, {"chars"}));
  BERTH_ASSIGN_OR_RETURN(const std::string chars, StringArgument("strip: the set of characters", bound[0], ""));
  const std::string* set = bound[0].string() != nullptr ? &chars : nullptr;
  std::string_view text = *self.string();
  if (left) text = StripLeft(text, set);
  if (right) text = StripRight(text, set);
  return Value(text);
}

template <bool from_right>
absl::StatusOr<Value> SplitMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("split", arguments, {"sep", "maxsplit"}));
  BERTH_ASSIGN_OR_RETURN(const std::string separator, StringArgument("split: the separator", bound[0], ""));
  BERTH_ASSIGN_OR_RETURN(const int64_t limit, IntegerArgument("split: the limit", bound[1], -1));
  if (bound[0].string() == nullptr) return ListOf(SplitSpace(*self.string(), limit, from_right));
  if (separator.empty()) return absl::InvalidArgumentError("split: the separator is empty");
  return ListOf(Split(*self.string(), separator, limit, from_right));
}

absl::StatusOr<Value> SplitLinesMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("splitlines", arguments, {"keepends"}));
  return ListOf(SplitLines(*self.string(), bound[0].Truthy()));
}

// startswith, endswith: one string or a tuple of them.
template <bool at_start>
absl::StatusOr<Value> HasAffix(Runtime& runtime, const Value& self, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind(at_start ? "startswith" : "endswith", arguments, {"affix!"}));
  std::vector<Value> affixes = {bound[0]};
  if (bound[0].list() != nullptr && bound[0].list()->kind == ListKind::kTuple) affixes = bound[0].list()->items;
  for (const Value& affix : affixes) {
    if (affix.string() == nullptr) {
      return absl::InvalidArgumentError(Cat("startswith or endswith: a value of type ", affix.TypeName(), " is not a string"));
    }
    const std::string& text = *self.string();
    if (at_start ? text.starts_with(*affix.string()) : text.ends_with(*affix.string())) return Value(true);
  }
  return Value(false);
}

template <bool prefix>
absl::StatusOr<Value> RemoveAffix(Runtime& runtime, const Value& self, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("removeprefix or removesuffix", arguments, {"affix!"}));
  BERTH_ASSIGN_OR_RETURN(const std::string affix, StringArgument("removeprefix or removesuffix", bound[0], ""));
  std::string_view text = *self.string();
  if (prefix && text.starts_with(affix)) text.remove_prefix(affix.size());
  if (!prefix && text.ends_with(affix)) text.remove_suffix(affix.size());
  return Value(text);
}

absl::StatusOr<Value> ReplaceMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("replace", arguments, {"old!", "new!", "count"}));
  if (bound[0].string() == nullptr || bound[1].string() == nullptr) {
    return absl::InvalidArgumentError(
        Cat("replace: values of type ", bound[0].TypeName(), " and ", bound[1].TypeName(), " are not both strings"));
  }
  BERTH_ASSIGN_OR_RETURN(const int64_t limit, IntegerArgument("replace: the count", bound[2], -1));
  BERTH_RETURN_IF_ERROR(runtime.Charge(CountOccurrences(*self.string(), *bound[0].string()) * bound[1].weight()));
  return Value(Replace(*self.string(), *bound[0].string(), *bound[1].string(), limit));
}

absl::StatusOr<Value> JoinMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("join", arguments, {"iterable!"}));
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(runtime, bound[0]));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (items[i].string() == nullptr) {
      return absl::InvalidArgumentError(Cat("join: item ", i, " is of type ", items[i].TypeName(), ", not a string"));
    }
    BERTH_RETURN_IF_ERROR(runtime.Charge(items[i].weight() + self.weight()));
    if (i > 0) out += *self.string();
    out += *items[i].string();
  }
  return Value(std::move(out));
}

template <bool from_right>
absl::StatusOr<Value> FindMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("find", arguments, {"part!"}));
  BERTH_ASSIGN_OR_RETURN(const std::string part, StringArgument("find", bound[0], ""));
  const size_t found = from_right ? self.string()->rfind(part) : self.string()->find(part);
  if (found == std::string::npos) return Value(int64_t{-1});
  return Value(static_cast<int64_t>(CodePointCount(std::string_view(*self.string()).substr(0, found))));
}

absl::StatusOr<Value> CountMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("count", arguments, {"part!"}));
  if (self.list() != nullptr) {
    BERTH_RETURN_IF_ERROR(runtime.Charge(self.weight()));
    const auto& items = self.list()->items;
    return Value(
        static_cast<int64_t>(std::count_if(items.begin(), items.end(), [&](const Value& v) { return Equal(v, bound[0]); })));
  }
  BERTH_ASSIGN_OR_RETURN(const std::string part, StringArgument("count", bound[0], ""));
  return Value(static_cast<int64_t>(CountOccurrences(*self.string(), part)));
}

absl::StatusOr<Value> IndexMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("index", arguments, {"item!"}));
  BERTH_RETURN_IF_ERROR(runtime.Charge(self.weight()));
  const auto& items = self.list()->items;
  const auto found = std::find_if(items.begin(), items.end(), [&](const Value& v) { return Equal(v, bound[0]); });
  if (found == items.end()) return absl::InvalidArgumentError("index: the item is not in the list");
  return Value(static_cast<int64_t>(found - items.begin()));
}

template <bool (*predicate)(char32_t)>
absl::StatusOr<Value> All(Runtime& runtime, const Value& self, const Arguments& arguments) {
  if (const auto bound = Bind("the method", arguments, {}); !bound.ok()) return bound.status();
  const std::vector<std::string_view> characters = CodePoints(*self.string());
  return Value(!characters.empty() && std::all_of(characters.begin(), characters.end(),
                                                  [](std::string_view one) { return predicate(ToCodePoint(one)); }));
}

template <bool keys, bool values>
absl::StatusOr<Value> DictParts(Runtime& runtime, const Value& self, const Arguments& arguments) {
  if (const auto bound = Bind("the method", arguments, {}); !bound.ok()) return bound.status();
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict()->items) {
    if (keys && values) {
      BERTH_ASSIGN_OR_RETURN(Value pair, MakeList({key, value}, ListKind::kTuple));
      items.push_back(std::move(pair));
    } else {
      items.push_back(keys ? key : value);
    }
  }
  return MakeList(std::move(items));
}

absl::StatusOr<Value> GetMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("get", arguments, {"key!", "default"}));
  const Value* found = self.dict()->Find(bound[0]);
  if (found != nullptr) return *found;
  return arguments.positional.size() + arguments.named.size() > 1 ? bound[1] : Value(None{});
}

absl::StatusOr<Value> CycleMethod(Runtime& runtime, const Value& self, const Arguments& arguments) {
  if (arguments.positional.empty() || !arguments.named.empty())
    return absl::InvalidArgumentError("loop.cycle needs items to cycle over");
  return arguments.positional[self.loop()->index % arguments.positional.size()];
}

struct Entry {
  std::string_view name;
  Method method;
};

constexpr Entry kStringMethods[] = {{"capitalize", Map<Capitalize>},
                                    {"count", CountMethod},
                                    {"endswith", HasAffix<false>},
                                    {"find", FindMethod<false>},
                                    {"isdigit", All<IsDigit>},
                                    {"isspace", All<IsSpace>},
                                    {"join", JoinMethod},
                                    {"lower", Map<Lower>},
                                    {"lstrip", Strip<true, false>},
                                    {"removeprefix", RemoveAffix<true>},
                                    {"removesuffix", RemoveAffix<false>},
                                    {"replace", ReplaceMethod},
                                    {"rfind", FindMethod<true>},
                                    {"rsplit", SplitMethod<true>},
                                    {"rstrip", Strip<false, true>},
                                    {"split", SplitMethod<false>},
                                    {"splitlines", SplitLinesMethod},
                                    {"startswith", HasAffix<true>},
                                    {"strip", Strip<true, true>},
                                    {"title", Map<Title>},
                                    {"upper", Map<Upper>}};
constexpr Entry kListMethods[] = {{"count", CountMethod}, {"index", IndexMethod}};
constexpr Entry kDictMethods[] = {
    {"get", GetMethod}, {"items", DictParts<true, true>}, {"keys", DictParts<true, false>}, {"values", DictParts<false, true>}};
constexpr Entry kLoopMethods[] = {{"cycle", CycleMethod}};

// What Python has and templates here do not. The sandbox of Hugging Face refuses the ones that change a list or dict, too.
constexpr std::string_view kMissingString[] = {
    "casefold",  "center",       "encode",  "expandtabs", "format",      "format_map", "isalnum", "isalpha", "isascii",
    "isdecimal", "isidentifier", "islower", "isnumeric",  "isprintable", "istitle",    "isupper", "ljust",   "maketrans",
    "partition", "rindex",       "rjust",   "rpartition", "swapcase",    "translate",  "zfill"};
constexpr std::string_view kMissingList[] = {"append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"};
constexpr std::string_view kMissingDict[] = {"clear", "pop", "popitem", "setdefault", "update", "fromkeys", "copy"};

template <typename Table>
Method FindIn(const Table& table, std::string_view name) {
  const auto* found = std::find_if(std::begin(table), std::end(table), [&](const Entry& entry) { return entry.name == name; });
  return found == std::end(table) ? nullptr : found->method;
}

template <typename Table>
bool IsIn(const Table& table, std::string_view name) {
  return std::find(std::begin(table), std::end(table), name) != std::end(table);
}

Method FindMethodOf(const Value& value, std::string_view name) {
  if (value.string() != nullptr) return FindIn(kStringMethods, name);
  if (value.list() != nullptr && value.list()->kind != ListKind::kIterator) return FindIn(kListMethods, name);
  if (value.dict() != nullptr) return FindIn(kDictMethods, name);
  return value.loop() != nullptr ? FindIn(kLoopMethods, name) : nullptr;
}

}  // namespace

bool IsMissingMethod(std::string_view name) {
  return IsIn(kMissingString, name) || IsIn(kMissingList, name) || IsIn(kMissingDict, name);
}

absl::StatusOr<bool> HasMethod(const Value& value, std::string_view name) {
  const bool missing = (value.string() != nullptr && IsIn(kMissingString, name)) ||
                       (value.list() != nullptr && value.list()->kind == ListKind::kList && IsIn(kMissingList, name)) ||
                       (value.dict() != nullptr && IsIn(kMissingDict, name));
  if (missing) return absl::InvalidArgumentError(Cat("the method '", name, "' of '", value.TypeName(), "' is not supported"));
  return FindMethodOf(value, name) != nullptr;
}

absl::StatusOr<Value> CallMethod(Runtime& runtime, const BoundMethod& method, const Arguments& arguments) {
  BERTH_RETURN_IF_ERROR(runtime.Charge(method.self.string() != nullptr ? method.self.weight() : 1));
  return FindMethodOf(method.self, method.name)(runtime, method.self, arguments);
}

}  // namespace berth::text::jinja
