#pragma once

#include "absl/types/span.h"
#include "worker/model/weight_rules.h"

namespace berth::model::families {

// Every family that Berth runs.
absl::Span<const Family* const> All();

}  // namespace berth::model::families
