#pragma once

#include <string>
#include <utility>
#include <vector>

#include "gateway/admission/rate_limiter.h"

namespace berth::http {

// x-ratelimit-{limit,remaining,reset}-{requests,tokens}, as OpenAI's clients read them; none for what has no limit.
std::vector<std::pair<std::string, std::string>> RateHeaders(const admission::RateLimiter::Levels& levels);

}  // namespace berth::http
