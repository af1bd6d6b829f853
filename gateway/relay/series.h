#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/mutex.h"
#include "prometheus/counter.h"
#include "prometheus/family.h"
#include "prometheus/histogram.h"

namespace berth::relay {

// The metrics of a family by the values of its labels, for those that every request counts in: the family's own Add makes and
// hashes a map each time, 2 us. Outlived by the family, which none is removed from. Thread-safe.
template <typename Metric>
class Series {
 public:
  // `buckets` are a histogram's.
  Series(prometheus::Family<Metric>& family, std::vector<std::string> labels,
         prometheus::Histogram::BucketBoundaries buckets = {})
      : family_(family), labels_(std::move(labels)), buckets_(std::move(buckets)) {}

  // As many values as labels.
  Metric& Of(std::initializer_list<std::string_view> values) {
    std::string key;
    for (std::string_view value : values) key.append(value).push_back('\0');
    base::MutexLock lock(mutex_);
    Metric*& metric = known_[key];
    if (metric == nullptr) metric = &Add(values);
    return *metric;
  }

 private:
  Metric& Add(std::initializer_list<std::string_view> values) {
    prometheus::Labels labels;
    auto label = labels_.begin();
    for (std::string_view value : values) labels.emplace(*label++, value);
    if constexpr (std::is_same_v<Metric, prometheus::Histogram>) {
      return family_.Add(labels, buckets_);
    } else {
      return family_.Add(labels);
    }
  }

  prometheus::Family<Metric>& family_;
  const std::vector<std::string> labels_;
  const prometheus::Histogram::BucketBoundaries buckets_;
  base::Mutex mutex_;
  absl::flat_hash_map<std::string, Metric*> known_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace berth::relay
