#include "worker/text/jinja/value.h"

#include <algorithm>
#include <cmath>

#include "absl/hash/hash.h"
#include "base/status.h"
#include "worker/text/jinja/cat.h"

namespace berth::text::jinja {
namespace {

constexpr int kMaxDepth = 100;
constexpr size_t kMaxWeight = size_t{64} << 20;

absl::Status CheckSize(int depth, size_t weight) {
  if (depth > kMaxDepth) return absl::ResourceExhaustedError(Cat("a value nests deeper than ", kMaxDepth, " levels"));
  if (weight > kMaxWeight) return absl::ResourceExhaustedError(Cat("a value is larger than ", kMaxWeight, " bytes"));
  return absl::OkStatus();
}

bool Hashable(const Value& value) {
  if (value.dict() != nullptr) return false;
  const List* list = value.list();
  if (list == nullptr) return true;
  return list->kind == ListKind::kTuple && std::all_of(list->items.begin(), list->items.end(), Hashable);
}

template <typename T>
const T* SharedOrNull(const Value::Variant& data) {
  const auto* pointer = std::get_if<std::shared_ptr<const T>>(&data);
  return pointer == nullptr ? nullptr : pointer->get();
}

}  // namespace

Value Value::UndefinedBecause(std::string message) {
  Value value;
  value.data_ = Undefined{std::make_shared<const std::string>(std::move(message))};
  return value;
}

bool Value::is_callable() const { return method() != nullptr || macro() != nullptr || function() != nullptr; }

const std::string* Value::string() const { return SharedOrNull<std::string>(data_); }
const List* Value::list() const { return SharedOrNull<List>(data_); }
const Dict* Value::dict() const { return SharedOrNull<Dict>(data_); }
const BoundMethod* Value::method() const { return SharedOrNull<BoundMethod>(data_); }
Loop* Value::loop() const {
  const auto* pointer = std::get_if<std::shared_ptr<Loop>>(&data_);
  return pointer == nullptr ? nullptr : pointer->get();
}
Namespace* Value::name_space() const {
  const auto* pointer = std::get_if<Namespace*>(&data_);
  return pointer == nullptr ? nullptr : *pointer;
}
const Closure* Value::macro() const {
  const auto* pointer = std::get_if<const Closure*>(&data_);
  return pointer == nullptr ? nullptr : *pointer;
}
const Function* Value::function() const { return std::get_if<Function>(&data_); }

bool Value::Truthy() const {
  if (is_undefined() || is_none()) return false;
  if (is_number()) return number() != 0;
  if (string() != nullptr) return !string()->empty();
  if (list() != nullptr) return list()->kind == ListKind::kIterator || !list()->items.empty();
  if (dict() != nullptr) return !dict()->items.empty();
  return true;
}

std::string_view Value::TypeName() const {
  if (is_undefined()) return "Undefined";
  if (is_none()) return "NoneType";
  if (is_bool()) return "bool";
  if (is_int()) return "int";
  if (is_float()) return "float";
  if (is_string()) return "str";
  if (dict() != nullptr) return "dict";
  if (name_space() != nullptr) return "Namespace";
  if (loop() != nullptr) return "LoopContext";
  if (is_callable()) return "function";
  switch (list()->kind) {
    case ListKind::kList:
      return "list";
    case ListKind::kTuple:
      return "tuple";
    case ListKind::kIterator:
      return "generator";
  }
  return "object";
}

std::string Value::UndefinedMessage() const {
  const auto& message = std::get<Undefined>(data_).message;
  return message == nullptr ? "a value is undefined" : *message;
}

int Value::depth() const {
  if (list() != nullptr) return list()->depth;
  if (dict() != nullptr) return dict()->depth;
  return method() != nullptr ? 1 + method()->self.depth() : 0;
}

size_t Value::weight() const {
  if (string() != nullptr) return 1 + string()->size();
  if (list() != nullptr) return list()->weight;
  return dict() != nullptr ? dict()->weight : 1;
}

const Value* Dict::Find(const Value& key) const {
  if (!Hashable(key)) return nullptr;
  auto found = index.find(key);
  return found == index.end() ? nullptr : &items[found->second].second;
}

size_t ValueHash::operator()(const Value& value) const {
  if (value.is_number()) return absl::HashOf(value.number());
  if (value.string() != nullptr) return absl::HashOf(*value.string());
  if (value.list() == nullptr) return 0;
  size_t hash = value.list()->items.size();
  for (const Value& item : value.list()->items) hash = absl::HashOf(hash, (*this)(item));
  return hash;
}

bool ValueEqual::operator()(const Value& a, const Value& b) const { return Equal(a, b); }

absl::StatusOr<Value> MakeList(std::vector<Value> items, ListKind kind) {
  auto list = std::make_shared<List>();
  list->kind = kind;
  for (const Value& item : items) {
    list->depth = std::max(list->depth, 1 + item.depth());
    list->weight += item.weight();
  }
  list->items = std::move(items);
  BERTH_RETURN_IF_ERROR(CheckSize(list->depth, list->weight));
  return Value(std::shared_ptr<const List>(std::move(list)));
}

absl::StatusOr<Value> MakeDict(std::vector<std::pair<Value, Value>> items) {
  auto dict = std::make_shared<Dict>();
  for (auto& [key, value] : items) {
    if (!Hashable(key)) return absl::InvalidArgumentError(Cat("unhashable type: '", key.TypeName(), "'"));
    dict->depth = std::max({dict->depth, 1 + key.depth(), 1 + value.depth()});
    dict->weight += key.weight() + value.weight();
    auto [entry, fresh] = dict->index.try_emplace(key, dict->items.size());
    if (fresh) {
      dict->items.emplace_back(std::move(key), std::move(value));
    } else {
      dict->items[entry->second].second = std::move(value);
    }
  }
  BERTH_RETURN_IF_ERROR(CheckSize(dict->depth, dict->weight));
  return Value(std::shared_ptr<const Dict>(std::move(dict)));
}

bool Equal(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.integer() == b.integer();
  if (a.is_number() && b.is_number()) return a.number() == b.number();
  if (a.string() != nullptr && b.string() != nullptr) return *a.string() == *b.string();
  if (a.list() != nullptr && b.list() != nullptr) {
    if (a.list() == b.list()) return true;
    return a.list()->kind == b.list()->kind && a.list()->kind != ListKind::kIterator &&
           std::equal(a.list()->items.begin(), a.list()->items.end(), b.list()->items.begin(), b.list()->items.end(), Equal);
  }
  if (a.dict() != nullptr && b.dict() != nullptr) {
    if (a.dict()->items.size() != b.dict()->items.size()) return false;
    return std::all_of(a.dict()->items.begin(), a.dict()->items.end(), [&](const auto& item) {
      const Value* other = b.dict()->Find(item.first);
      return other != nullptr && Equal(item.second, *other);
    });
  }
  if (a.is_undefined() && b.is_undefined()) return true;
  if (a.is_none() && b.is_none()) return true;
  if (a.name_space() != nullptr) return a.name_space() == b.name_space();
  if (a.macro() != nullptr) return a.macro() == b.macro();
  if (a.loop() != nullptr) return a.loop() == b.loop();
  return false;
}

absl::StatusOr<int> Compare(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) return a.integer() < b.integer() ? -1 : a.integer() > b.integer();
  if (a.is_number() && b.is_number()) return a.number() < b.number() ? -1 : a.number() > b.number();
  if (a.string() != nullptr && b.string() != nullptr) return a.string()->compare(*b.string());
  const List *left = a.list(), *right = b.list();
  if (left != nullptr && right != nullptr && left->kind == right->kind && left->kind != ListKind::kIterator) {
    for (size_t i = 0; i < std::min(left->items.size(), right->items.size()); ++i) {
      if (!Equal(left->items[i], right->items[i])) return Compare(left->items[i], right->items[i]);
    }
    return left->items.size() < right->items.size() ? -1 : left->items.size() > right->items.size();
  }
  if (a.is_undefined()) return absl::InvalidArgumentError(a.UndefinedMessage());
  if (b.is_undefined()) return absl::InvalidArgumentError(b.UndefinedMessage());
  return absl::InvalidArgumentError(Cat("'", a.TypeName(), "' and '", b.TypeName(), "' cannot be ordered"));
}

}  // namespace berth::text::jinja
