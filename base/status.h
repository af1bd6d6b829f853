#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns from the enclosing function when `expression`, an absl::Status, is an error.
#define BERTH_RETURN_IF_ERROR(expression)                                                     \
  do {                                                                                        \
    if (absl::Status berth_status_ = (expression); !berth_status_.ok()) return berth_status_; \
  } while (false)

#define BERTH_STATUS_CONCAT_INNER(a, b) a##b
#define BERTH_STATUS_CONCAT(a, b) BERTH_STATUS_CONCAT_INNER(a, b)

// BERTH_ASSIGN_OR_RETURN(auto x, MakeX()): assigns the value of an absl::StatusOr, or returns its error.
#define BERTH_ASSIGN_OR_RETURN(target, expression) \
  BERTH_ASSIGN_OR_RETURN_IMPL(BERTH_STATUS_CONCAT(berth_statusor_, __LINE__), target, expression)
#define BERTH_ASSIGN_OR_RETURN_IMPL(temporary, target, expression) \
  auto temporary = (expression);                                   \
  if (!temporary.ok()) return std::move(temporary).status();       \
  target = *std::move(temporary)
