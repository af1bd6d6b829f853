#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "worker/text/grammar/grammar.h"

namespace berth::text {

// The rules of JSON in a grammar that is being built, and how its pieces are put together. White space follows each piece.
class JsonRules {
 public:
  using ExprId = Grammar::ExprId;

  // `grammar` must outlive it.
  explicit JsonRules(Grammar& grammar);

  Grammar& grammar() const { return grammar_; }
  Grammar::RuleId object_rule() const { return object_; }
  ExprId String() const { return grammar_.Refer(string_); }
  ExprId Number() const { return grammar_.Refer(number_); }
  ExprId Integer() const { return grammar_.Refer(integer_); }
  ExprId Value() const { return grammar_.Refer(value_); }
  ExprId Object() const { return grammar_.Refer(object_); }
  ExprId Array() const { return grammar_.Refer(array_); }

  ExprId StringOfLength(int least, int most) const;
  // A string that is none of `strings`, which are JSON; no character is escaped that need not be, or by its number.
  ExprId StringExcept(absl::Span<const std::string> strings) const;
  ExprId Braces(std::string_view open, std::string_view close, ExprId inside) const;
  ExprId Comma() const { return grammar_.Sequence({grammar_.Literal(","), Space()}); }
  // name : value
  ExprId Member(ExprId name, ExprId value) const;
  // item (, item)*, between `least` and `most` of them (most -1: no limit), at least one.
  ExprId List(ExprId item, int least, int most) const;
  // A rule for `expr`, which is used more than once.
  ExprId Named(std::string name, ExprId expr) const;

 private:
  ExprId Space() const { return grammar_.Refer(space_); }
  ExprId Character() const;  // of a string
  Grammar::RuleId Rule(std::string name, std::string_view pattern);

  Grammar& grammar_;
  Grammar::RuleId space_, escape_, string_, number_, integer_, value_, object_, array_;
};

// INVALID_ARGUMENT when `json` nests deeper or has more members than anybody writes. To be asked before an ordered_json is made
// of it: what copies or writes a value needs as much stack, and each member is compared with all before it in its object.
absl::Status CheckSize(std::string_view json);

// Adds a rule for what a schema describes to the grammar of `rules`. After an error the grammar is of no use.
absl::StatusOr<Grammar::RuleId> AppendJsonSchema(std::string_view schema, const JsonRules& rules);

}  // namespace berth::text
