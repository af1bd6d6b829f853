#include "worker/text/grammar/json_numbers.h"

#include <algorithm>
#include <map>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status.h"

namespace berth::text {
namespace {

constexpr size_t kMaxStates = 4'000;
constexpr int kMaxFactor = 1'000;

// The numbers of one sign, read digit by digit from the first.
class Magnitudes {
 public:
  using Bound = NumberLimits::Bound;

  Magnitudes(const NumberLimits& limits, int factor, bool negative) : integer_(limits.integer), factor_(factor) {
    if (negative) AddBound({.value = {}, .least = true, .exclusive = true});
    for (const Bound& bound : limits.bounds) {
      const bool least = bound.least != negative;
      if (bound.value.zero() || bound.value.negative == negative) {
        AddBound({bound.value, least, bound.exclusive});
      } else if (!least) {
        none_ = true;
      }
    }
    if (factor_ > 0) places_ = limits.multiple_of->fraction.size();
    longest_fraction_ = std::max(longest_fraction_, places_);
  }

  // Appends the automaton, if it reads any number.
  absl::Status Append(Grammar& grammar, const char* sign, std::vector<Grammar::ExprId>& choices) {
    if (none_) return absl::OkStatus();
    std::vector<Grammar::AutomatonState> states(1);
    std::vector<State> open = {{}};
    std::map<State, int> known = {{{}, 0}};
    std::vector<std::vector<int>> before(1);
    for (size_t i = 0; i < open.size(); ++i) {
      states[i].accepting = Holds(open[i]);
      for (const char c : std::string_view(".0123456789")) {
        const std::optional<State> next = Next(open[i], c);
        if (!next.has_value()) continue;
        const auto [it, added] = known.emplace(*next, static_cast<int>(open.size()));
        if (added) {
          if (open.size() == kMaxStates) return TooLarge();
          open.push_back(*next);
          states.emplace_back();
          before.emplace_back();
        }
        states[i].next.push_back({static_cast<uint8_t>(c), it->second});
        before[it->second].push_back(static_cast<int>(i));
      }
    }
    if (RemoveDeadEnds(before, states)) {
      choices.push_back(grammar.Sequence({grammar.Literal(sign), grammar.Automaton(std::move(states))}));
    }
    return absl::OkStatus();
  }

 private:
  enum class Part { kStart, kZero, kWhole, kPoint, kFraction };
  struct State {
    Part part = Part::kStart;
    size_t digits = 0;       // of the whole without its zero, or of the fraction; counted as far as it matters
    std::vector<int> order;  // -1, 0, 1: the digits so far against as many of each bound
    int remainder = 0;       // of all digits, by the factor
    auto operator<=>(const State&) const = default;
  };

  static absl::Status TooLarge() {
    return absl::OutOfRangeError(absl::StrCat("with these limits it takes more than ", kMaxStates, " states"));
  }

  void AddBound(Bound bound) {
    longest_whole_ = std::max(longest_whole_, bound.value.whole.size());
    longest_fraction_ = std::max(longest_fraction_, bound.value.fraction.size());
    bounds_.push_back(std::move(bound));
  }

  std::optional<State> Next(State state, char c) const {
    state.order.resize(bounds_.size());
    const bool whole = state.part < Part::kPoint;
    if (c == '.') {
      if (!whole || integer_ || state.part == Part::kStart) return std::nullopt;
      return Possible(AtPoint(std::move(state)));
    }
    if (state.part == Part::kZero) return std::nullopt;
    if (state.part == Part::kStart && c == '0') {
      state.part = Part::kZero;
      return state;
    }
    state.part = whole ? Part::kWhole : Part::kFraction;
    for (size_t i = 0; i < bounds_.size(); ++i) {
      const std::string& digits = whole ? bounds_[i].value.whole : bounds_[i].value.fraction;
      const bool inside = state.digits < digits.size();
      if (whole && !inside) {
        state.order[i] = 1;
      } else if (state.order[i] == 0) {
        state.order[i] = Sign(c - (inside ? digits[state.digits] : '0'));
      }
    }
    if (factor_ > 0) {
      if (whole || state.digits < places_) {
        state.remainder = (state.remainder * 10 + (c - '0')) % factor_;
      } else if (c != '0') {
        return std::nullopt;
      }
    }
    state.digits = std::min(state.digits + 1, whole ? longest_whole_ + 1 : longest_fraction_);
    return Possible(std::move(state));
  }

  // Without what is plainly a dead end: it is most of the states of a large factor.
  std::optional<State> Possible(State state) const {
    const bool whole = state.part < Part::kPoint;
    if (!whole && state.digits >= places_ && state.remainder != 0) return std::nullopt;
    for (size_t i = 0; i < bounds_.size(); ++i) {
      const bool above = state.order[i] > 0 && (!whole || state.digits >= bounds_[i].value.whole.size());
      if (above && !bounds_[i].least) return std::nullopt;
    }
    return state;
  }

  // Fewer digits before the point are a smaller number.
  State AtPoint(State state) const {
    for (size_t i = 0; i < bounds_.size(); ++i) {
      if (state.digits < bounds_[i].value.whole.size()) state.order[i] = -1;
    }
    state.part = Part::kPoint;
    state.digits = 0;
    return state;
  }

  // The number may end here.
  bool Holds(State state) const {
    if (state.part == Part::kStart || state.part == Part::kPoint) return false;
    if (state.part != Part::kFraction) state = AtPoint(std::move(state));
    for (size_t i = 0; i < bounds_.size(); ++i) {
      const Bound& bound = bounds_[i];
      int order = state.order[i];
      if (order == 0 && state.digits < bound.value.fraction.size()) order = -1;
      if (order == 0 ? bound.exclusive : bound.least != (order > 0)) return false;
    }
    for (size_t i = state.digits; i < places_; ++i) state.remainder = state.remainder * 10 % factor_;
    return state.remainder == 0;
  }

  // Drops edges to states from which no number ends; false when the start is one.
  static bool RemoveDeadEnds(const std::vector<std::vector<int>>& before, std::vector<Grammar::AutomatonState>& states) {
    std::vector<bool> alive(states.size());
    std::vector<int> open;
    const auto reach = [&](int state) {
      if (!alive[state]) open.push_back(state);
      alive[state] = true;
    };
    for (size_t i = 0; i < states.size(); ++i) {
      if (states[i].accepting) reach(static_cast<int>(i));
    }
    while (!open.empty()) {
      const int state = open.back();
      open.pop_back();
      for (const int source : before[state]) reach(source);
    }
    for (Grammar::AutomatonState& state : states) {
      std::erase_if(state.next, [&](const auto& edge) { return !alive[edge.second]; });
    }
    return alive[0];
  }

  static int Sign(int difference) { return (difference > 0) - (difference < 0); }

  const bool integer_;
  const int factor_;  // a number times 10^places_ is a multiple of it; 0: any number
  size_t places_ = 0;
  bool none_ = false;
  std::vector<Bound> bounds_;
  size_t longest_whole_ = 0, longest_fraction_ = 0;
};

}  // namespace

std::optional<Decimal> ParseDecimal(std::string_view json) {
  Decimal out{.negative = json.starts_with('-')};
  json.remove_prefix(out.negative ? 1 : 0);
  int exponent = 0;
  if (const size_t e = json.find_first_of("eE"); e != json.npos) {
    if (!absl::SimpleAtoi(std::string(json.substr(e + 1)), &exponent)) return std::nullopt;
    json = json.substr(0, e);
  }
  const size_t point = std::min(json.find('.'), json.size());
  std::string digits(json.substr(0, point));
  if (point < json.size()) digits.append(json.substr(point + 1));
  // How many of the digits stand before the point, once zeros are put around them.
  int64_t before = static_cast<int64_t>(point) + exponent;
  if (std::abs(before) > 1'000) return std::nullopt;
  if (before < 0) {
    digits.insert(0, -before, '0');
    before = 0;
  }
  if (before > static_cast<int64_t>(digits.size())) digits.resize(before, '0');
  out.whole = digits.substr(0, before);
  out.whole.erase(0, std::min(out.whole.find_first_not_of('0'), out.whole.size()));
  out.fraction = digits.substr(before);
  out.fraction.erase(out.fraction.find_last_not_of('0') + 1);
  if (out.whole.size() > kMaxDecimalDigits || out.fraction.size() > kMaxDecimalDigits) return std::nullopt;
  return out;
}

absl::StatusOr<Grammar::ExprId> AppendNumber(const NumberLimits& limits, Grammar& grammar) {
  int factor = 0;
  if (const std::optional<Decimal>& multiple = limits.multiple_of; multiple.has_value()) {
    if (!absl::SimpleAtoi(multiple->whole + multiple->fraction, &factor) || factor > kMaxFactor) {
      return absl::OutOfRangeError(absl::StrCat("its digits are above ", kMaxFactor));
    }
  }
  std::vector<Grammar::ExprId> choices;
  BERTH_RETURN_IF_ERROR(Magnitudes(limits, factor, /*negative=*/false).Append(grammar, "", choices));
  BERTH_RETURN_IF_ERROR(Magnitudes(limits, factor, /*negative=*/true).Append(grammar, "-", choices));
  if (choices.empty()) return absl::InvalidArgumentError("no number is within these limits");
  return grammar.Choice(std::move(choices));
}

}  // namespace berth::text
