#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"

namespace berth::text::jinja {

class Value;
struct Dict;
struct List;
struct Loop;
struct Closure;
struct Namespace;
struct BoundMethod;

// What a lookup that found nothing gives. It prints as "", is false and empty; any other use is an error that says `message`.
struct Undefined {
  std::shared_ptr<const std::string> message;
};
struct None {};
// A function of the environment (range, namespace, …), by name.
struct Function {
  std::string_view name;  // static storage
};

// A Python value as templates see it. Strings are UTF-8. Lists, tuples and dicts never change once made, so values are copied
// freely and shared. Thread: values that hold macros, namespaces or loops live as long as the render that made them.
class Value {
 public:
  using Variant = std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const std::string>,
                               std::shared_ptr<const List>, std::shared_ptr<const Dict>, std::shared_ptr<const BoundMethod>,
                               std::shared_ptr<Loop>, Namespace*, const Closure*, Function>;

  Value() = default;  // undefined
  Value(None none) : data_(none) {}
  Value(bool value) : data_(value) {}
  Value(int64_t value) : data_(value) {}
  Value(double value) : data_(value) {}
  Value(std::string value) : data_(std::make_shared<const std::string>(std::move(value))) {}
  Value(std::string_view value) : Value(std::string(value)) {}
  Value(const char* value) : Value(std::string(value)) {}
  Value(std::shared_ptr<const List> value) : data_(std::move(value)) {}
  Value(std::shared_ptr<const Dict> value) : data_(std::move(value)) {}
  Value(std::shared_ptr<const BoundMethod> value) : data_(std::move(value)) {}
  Value(std::shared_ptr<Loop> value) : data_(std::move(value)) {}
  Value(Namespace* value) : data_(value) {}
  Value(const Closure* value) : data_(value) {}
  Value(Function value) : data_(value) {}
  Value(const void*) = delete;

  static Value UndefinedBecause(std::string message);

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  // A Python int that is not a bool.
  bool is_int() const { return std::holds_alternative<int64_t>(data_); }
  bool is_float() const { return std::holds_alternative<double>(data_); }
  bool is_number() const { return is_bool() || is_int() || is_float(); }
  bool is_string() const { return std::holds_alternative<std::shared_ptr<const std::string>>(data_); }
  bool is_callable() const;

  // Each returns nullptr when the value is of another kind.
  const std::string* string() const;
  const List* list() const;
  const Dict* dict() const;
  const BoundMethod* method() const;
  Loop* loop() const;
  Namespace* name_space() const;
  const Closure* macro() const;
  const Function* function() const;

  // Of a bool or an int.
  bool is_integral() const { return is_bool() || is_int(); }
  int64_t integer() const { return is_bool() ? std::get<bool>(data_) : std::get<int64_t>(data_); }
  // Of any number.
  double number() const { return is_float() ? std::get<double>(data_) : static_cast<double>(integer()); }

  bool Truthy() const;
  // Python's name of the type, for messages: "str", "dict", …
  std::string_view TypeName() const;
  // "'x' is undefined" and the like.
  std::string UndefinedMessage() const;

  // Levels of lists and dicts below this value, and bytes and elements of it written out in full; both bounded by MakeList and
  // MakeDict, so that walking a value is safe.
  int depth() const;
  size_t weight() const;

 private:
  Variant data_;
};

enum class ListKind { kList, kTuple, kIterator };

struct List {
  ListKind kind = ListKind::kList;
  std::vector<Value> items;
  int depth = 1;
  size_t weight = 1;
};

struct ValueHash {
  size_t operator()(const Value& value) const;
};
struct ValueEqual {
  bool operator()(const Value& a, const Value& b) const;
};

// Keeps insertion order, as Python's dict.
struct Dict {
  std::vector<std::pair<Value, Value>> items;
  absl::flat_hash_map<Value, size_t, ValueHash, ValueEqual> index;
  int depth = 1;
  size_t weight = 1;

  const Value* Find(const Value& key) const;
};

// A method of a string, list or dict, as in `x.strip`.
struct BoundMethod {
  Value self;
  std::string name;
};

struct Namespace {
  absl::flat_hash_map<std::string, Value> attributes;
};

// The variable `loop`.
struct Loop {
  std::vector<Value> items;
  size_t index = 0;
  int depth = 0;
};

// RESOURCE_EXHAUSTED when the value would nest deeper or weigh more than a template can need.
absl::StatusOr<Value> MakeList(std::vector<Value> items, ListKind kind = ListKind::kList);
// Later entries replace earlier ones with an equal key. INVALID_ARGUMENT when a key is not hashable.
absl::StatusOr<Value> MakeDict(std::vector<std::pair<Value, Value>> items);

// Python's ==.
bool Equal(const Value& a, const Value& b);
// Python's <: negative, zero or positive. INVALID_ARGUMENT when Python could not compare the two.
absl::StatusOr<int> Compare(const Value& a, const Value& b);

}  // namespace berth::text::jinja
