#pragma once

#include "worker/engine/step_plan.h"

namespace berth::engine {

// What the time of one step depends on.
struct StepWork {
  int tokens = 0;
  double kv_tokens = 0;  // whose KV rows of one token read
  double pairs = 0;      // of a token and one that it attends to, in longer rows

  // A row of `count` tokens from `position` on.
  void Add(int position, int count);
};

StepWork WorkOf(const StepPlan& plan);

// A model of a step's time on one device, in seconds. All zero: nothing is known of the device.
struct StepCost {
  double fixed = 0;     // beginnings and ends of kernels
  double weights = 0;   // reading all weights
  double token = 0;     // multiplying one token with all weights
  double kv_token = 0;  // reading the KV of one token
  double pair = 0;      // attention of one token of a prompt to one other
  int tile = 1;         // products take that many tokens at a time: a part of a tile costs what all of it costs

  bool known() const { return token > 0; }
  // Products take the longer of reading and multiplying, between tiles as much as there are tokens; attention comes on top.
  double Seconds(const StepWork& work) const;
  // The most tokens of prompts, each behind `position` others, that a step of `work` and them computes within `seconds`.
  int TokensWithin(double seconds, const StepWork& work, int position) const;
};

}  // namespace berth::engine
