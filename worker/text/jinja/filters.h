#pragma once

#include <string_view>

#include "absl/types/span.h"
#include "worker/text/jinja/builtins.h"

namespace berth::text::jinja {

// The filters, which FindFilter searches.
struct FilterEntry {
  std::string_view name;
  Filter filter;
};

absl::Span<const FilterEntry> ScalarFilters();    // of texts, numbers and any single value
absl::Span<const FilterEntry> SequenceFilters();  // of lists, dicts and texts as sequences

}  // namespace berth::text::jinja
