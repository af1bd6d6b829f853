#pragma once

#include <cstddef>
#include <list>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace berth::base {

// A map of bounded size that forgets what was set longest ago. Thread: one owner.
template <typename Key, typename Value>
class LruMap {
 public:
  explicit LruMap(size_t capacity) : capacity_(capacity) {}

  // Null when the key is not there, or was forgotten.
  const Value* Find(const Key& key) const {
    const auto found = places_.find(key);
    return found == places_.end() ? nullptr : &found->second->second;
  }
  void Set(const Key& key, Value value) {
    const auto [place, fresh] = places_.try_emplace(key);
    if (fresh) {
      place->second = entries_.emplace(entries_.end(), key, std::move(value));
    } else {
      place->second->second = std::move(value);
      entries_.splice(entries_.end(), entries_, place->second);
    }
    if (entries_.size() <= capacity_) return;
    places_.erase(entries_.front().first);
    entries_.pop_front();
  }
  size_t size() const { return entries_.size(); }

 private:
  using Entries = std::list<std::pair<Key, Value>>;

  const size_t capacity_;
  Entries entries_;  // what was set last comes last
  absl::flat_hash_map<Key, typename Entries::iterator> places_;
};

}  // namespace berth::base
