#include <algorithm>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/numbers.h"
#include "base/status.h"
#include "worker/text/jinja/arguments.h"
#include "worker/text/jinja/cat.h"
#include "worker/text/jinja/filters.h"
#include "worker/text/jinja/operators.h"
#include "worker/text/jinja/strings.h"
#include "worker/text/jinja/unicode.h"

namespace berth::text::jinja {
namespace {

// `item.a.0.b`, as the `attribute` argument of many filters writes it.
absl::StatusOr<Value> AttributePath(const Value& item, const Value& path) {
  if (path.is_undefined() || path.is_none()) return item;
  if (path.is_integral()) return GetItem(item, path);
  BERTH_ASSIGN_OR_RETURN(const std::string text, StringArgument("the attribute", path, ""));
  Value value = item;
  for (const std::string& part : Split(text, ".", -1, false)) {
    int64_t index = 0;
    const bool number =
        !part.empty() && part.find_first_not_of("0123456789") == std::string_view::npos && absl::SimpleAtoi(part, &index);
    // Items come before methods here: the path "items" of a dict means its key.
    const Value* found = value.dict() != nullptr && !number ? value.dict()->Find(Value(part)) : nullptr;
    if (found != nullptr) {
      value = Value(*found);
    } else {
      BERTH_ASSIGN_OR_RETURN(value, GetItem(value, number ? Value(index) : Value(part)));
    }
  }
  return value;
}

// What sorting and comparing filters look at: the attribute, in lower case unless case matters.
absl::StatusOr<Value> Key(Runtime& runtime, const Value& item, const Value& path, bool case_sensitive) {
  BERTH_ASSIGN_OR_RETURN(Value key, AttributePath(item, path));
  BERTH_RETURN_IF_ERROR(runtime.Charge(key.weight()));
  return !case_sensitive && key.string() != nullptr ? Value(Lower(*key.string())) : key;
}

absl::StatusOr<Value> ListFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  if (const auto bound = Bind("list", arguments, {}); !bound.ok()) return bound.status();
  BERTH_ASSIGN_OR_RETURN(std::vector<Value> items, Iterate(runtime, input));
  return MakeList(std::move(items));
}

template <bool last>
absl::StatusOr<Value> EndFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  if (const auto bound = Bind("first or last", arguments, {}); !bound.ok()) return bound.status();
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(runtime, input));
  if (items.empty()) return Value::UndefinedBecause("the sequence was empty");
  return last ? items.back() : items.front();
}

absl::StatusOr<Value> ReverseFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  if (const auto bound = Bind("reverse", arguments, {}); !bound.ok()) return bound.status();
  if (input.is_undefined()) return absl::InvalidArgumentError(input.UndefinedMessage());
  BERTH_ASSIGN_OR_RETURN(std::vector<Value> items, Iterate(runtime, input));
  std::reverse(items.begin(), items.end());
  if (input.string() == nullptr) return MakeList(std::move(items), ListKind::kIterator);
  std::string text;
  for (const Value& item : items) text += *item.string();
  return Value(std::move(text));
}

absl::StatusOr<Value> JoinFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("join", arguments, {"d", "attribute"}));
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(runtime, input));
  BERTH_ASSIGN_OR_RETURN(const std::string separator, Text(runtime, bound[0]));
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    BERTH_ASSIGN_OR_RETURN(const Value item, AttributePath(items[i], bound[1]));
    BERTH_RETURN_IF_ERROR(runtime.Charge(separator.size()));
    BERTH_ASSIGN_OR_RETURN(const std::string text, Text(runtime, item));
    if (i > 0) out += separator;
    out += text;
  }
  return Value(std::move(out));
}

absl::StatusOr<Value> ItemsFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  if (const auto bound = Bind("items", arguments, {}); !bound.ok()) return bound.status();
  if (input.is_undefined()) return MakeList({}, ListKind::kIterator);
  if (input.dict() == nullptr)
    return absl::InvalidArgumentError(Cat("items: a value of type ", input.TypeName(), " is no mapping"));
  std::vector<Value> items;
  for (const auto& [key, value] : input.dict()->items) {
    BERTH_ASSIGN_OR_RETURN(Value pair, MakeList({key, value}, ListKind::kTuple));
    items.push_back(std::move(pair));
  }
  BERTH_RETURN_IF_ERROR(runtime.Charge(items.size() * kItemWork));
  return MakeList(std::move(items), ListKind::kIterator);
}

// Sorts stably by `keys`; the first error of a comparison wins.
absl::StatusOr<std::vector<Value>> SortBy(Runtime& runtime, const std::vector<Value>& items, const std::vector<Value>& keys,
                                          bool reverse) {
  size_t work = 0;
  for (const Value& key : keys) work += key.weight();
  BERTH_RETURN_IF_ERROR(runtime.Charge(work * 20));
  std::vector<size_t> order(items.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  absl::Status status;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const auto compared = Compare(keys[a], keys[b]);
    if (!compared.ok()) status.Update(compared.status());
    return compared.ok() && (reverse ? *compared > 0 : *compared < 0);
  });
  BERTH_RETURN_IF_ERROR(status);
  std::vector<Value> sorted;
  for (size_t index : order) sorted.push_back(items[index]);
  return sorted;
}

absl::StatusOr<Value> SortFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("sort", arguments, {"reverse", "case_sensitive", "attribute"}));
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(runtime, input));
  std::vector<Value> keys;
  for (const Value& item : items) {
    BERTH_ASSIGN_OR_RETURN(Value key, Key(runtime, item, bound[2], bound[1].Truthy()));
    keys.push_back(std::move(key));
  }
  BERTH_ASSIGN_OR_RETURN(std::vector<Value> sorted, SortBy(runtime, items, keys, bound[0].Truthy()));
  return MakeList(std::move(sorted));
}

absl::StatusOr<Value> DictSortFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("dictsort", arguments, {"case_sensitive", "by", "reverse"}));
  BERTH_ASSIGN_OR_RETURN(const std::string by, StringArgument("dictsort: the argument 'by'", bound[1], "key"));
  if (by != "key" && by != "value")
    return absl::InvalidArgumentError("dictsort: the argument 'by' is neither 'key' nor 'value'");
  BERTH_ASSIGN_OR_RETURN(const Value pairs, ItemsFilter(runtime, input, {}));
  std::vector<Value> keys;
  for (const Value& pair : pairs.list()->items) {
    BERTH_ASSIGN_OR_RETURN(Value key, Key(runtime, pair, Value(int64_t{by == "value"}), bound[0].Truthy()));
    keys.push_back(std::move(key));
  }
  BERTH_ASSIGN_OR_RETURN(std::vector<Value> sorted, SortBy(runtime, pairs.list()->items, keys, bound[2].Truthy()));
  return MakeList(std::move(sorted));
}

absl::StatusOr<Value> UniqueFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("unique", arguments, {"case_sensitive", "attribute"}));
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(runtime, input));
  std::vector<Value> kept;
  absl::flat_hash_set<Value, ValueHash, ValueEqual> seen;
  for (const Value& item : items) {
    BERTH_ASSIGN_OR_RETURN(Value key, Key(runtime, item, bound[1], bound[0].Truthy()));
    if (key.dict() != nullptr || (key.list() != nullptr && key.list()->kind != ListKind::kTuple)) {
      return absl::InvalidArgumentError(Cat("unique: a value of type ", key.TypeName(), " is not hashable"));
    }
    if (seen.insert(std::move(key)).second) kept.push_back(item);
  }
  return MakeList(std::move(kept), ListKind::kIterator);
}

absl::StatusOr<Value> SumFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("sum", arguments, {"attribute", "start"}));
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(runtime, input));
  Value sum = bound[1].is_undefined() ? Value(int64_t{0}) : bound[1];
  for (const Value& item : items) {
    BERTH_ASSIGN_OR_RETURN(const Value term, AttributePath(item, bound[0]));
    BERTH_ASSIGN_OR_RETURN(sum, Arithmetic(runtime, "+", sum, term));
  }
  return sum;
}

template <bool max>
absl::StatusOr<Value> ExtremeFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("min or max", arguments, {"case_sensitive", "attribute"}));
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(runtime, input));
  if (items.empty()) return Value::UndefinedBecause("the sequence was empty");
  size_t best = 0;
  BERTH_ASSIGN_OR_RETURN(Value best_key, Key(runtime, items[0], bound[1], bound[0].Truthy()));
  for (size_t i = 1; i < items.size(); ++i) {
    BERTH_ASSIGN_OR_RETURN(Value key, Key(runtime, items[i], bound[1], bound[0].Truthy()));
    BERTH_ASSIGN_OR_RETURN(const int order, Compare(key, best_key));
    if (max ? order > 0 : order < 0) {
      best = i;
      best_key = std::move(key);
    }
  }
  return items[best];
}

// The arguments from `from` on, for the filter or test that the others name.
Arguments Rest(const Arguments& arguments, size_t from) {
  Arguments rest{.named = arguments.named};
  rest.positional.assign(arguments.positional.begin() + from, arguments.positional.end());
  return rest;
}

absl::StatusOr<Value> MapFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(runtime, input));
  std::vector<Value> mapped;
  if (arguments.positional.empty()) {
    BERTH_ASSIGN_OR_RETURN(const std::vector<Value> bound, Bind("map", arguments, {"attribute!", "default"}));
    for (const Value& item : items) {
      BERTH_ASSIGN_OR_RETURN(Value value, AttributePath(item, bound[0]));
      mapped.push_back(value.is_undefined() ? bound[1] : std::move(value));
    }
  } else {
    BERTH_ASSIGN_OR_RETURN(const std::string name, StringArgument("map: the filter's name", arguments.positional[0], ""));
    const Filter filter = FindFilter(name);
    if (filter == nullptr) return absl::InvalidArgumentError(Cat("the filter '", name, "' is not supported"));
    for (const Value& item : items) {
      BERTH_ASSIGN_OR_RETURN(Value value, filter(runtime, item, Rest(arguments, 1)));
      mapped.push_back(std::move(value));
    }
  }
  return MakeList(std::move(mapped), ListKind::kIterator);
}

// select, reject, selectattr, rejectattr.
template <bool keep, bool attribute>
absl::StatusOr<Value> SelectFilter(Runtime& runtime, const Value& input, const Arguments& arguments) {
  const auto& positional = arguments.positional;
  const size_t first = attribute ? 1 : 0;
  if (positional.size() < first) return absl::InvalidArgumentError("selectattr or rejectattr needs an attribute");
  Test test = nullptr;
  if (positional.size() > first) {
    BERTH_ASSIGN_OR_RETURN(const std::string name, StringArgument("the test's name", positional[first], ""));
    test = FindTest(name);
    if (test == nullptr) return absl::InvalidArgumentError(Cat("the test '", name, "' is not supported"));
  }
  BERTH_ASSIGN_OR_RETURN(const std::vector<Value> items, Iterate(runtime, input));
  std::vector<Value> kept;
  for (const Value& item : items) {
    Value value = item;
    if (attribute) {
      BERTH_ASSIGN_OR_RETURN(value, AttributePath(item, positional[0]));
    }
    bool passes = value.Truthy();
    if (test != nullptr) {
      BERTH_ASSIGN_OR_RETURN(passes, test(runtime, value, Rest(arguments, first + 1)));
    }
    if (passes == keep) kept.push_back(item);
  }
  return MakeList(std::move(kept), ListKind::kIterator);
}

constexpr FilterEntry kFilters[] = {
    {"dictsort", DictSortFilter},
    {"first", EndFilter<false>},
    {"items", ItemsFilter},
    {"join", JoinFilter},
    {"last", EndFilter<true>},
    {"list", ListFilter},
    {"map", MapFilter},
    {"max", ExtremeFilter<true>},
    {"min", ExtremeFilter<false>},
    {"reject", SelectFilter<false, false>},
    {"rejectattr", SelectFilter<false, true>},
    {"reverse", ReverseFilter},
    {"select", SelectFilter<true, false>},
    {"selectattr", SelectFilter<true, true>},
    {"sort", SortFilter},
    {"sum", SumFilter},
    {"unique", UniqueFilter},
};

}  // namespace

absl::Span<const FilterEntry> SequenceFilters() { return kFilters; }

Filter FindFilter(std::string_view name) {
  for (const absl::Span<const FilterEntry> filters : {ScalarFilters(), SequenceFilters()}) {
    for (const FilterEntry& entry : filters) {
      if (entry.name == name) return entry.filter;
    }
  }
  return nullptr;
}

}  // namespace berth::text::jinja
