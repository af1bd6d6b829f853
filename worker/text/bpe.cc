#include "worker/text/bpe.h"

#include <algorithm>
#include <functional>
#include <queue>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "worker/text/byte_spelling.h"
#include "worker/text/utf8.h"

namespace berth::text {

absl::StatusOr<Bpe> Bpe::Make(const TokenizerData& data) {
  Bpe bpe;
  bpe.byte_level_ = data.byte_level;
  bpe.byte_fallback_ = data.byte_fallback;
  bpe.ignore_merges_ = data.ignore_merges;
  bpe.fuse_unknown_ = data.fuse_unknown;
  bpe.unknown_id_ = data.unknown_id;

  const auto size = static_cast<int32_t>(data.pieces.size());
  const auto is_piece = [&](int32_t id) { return id >= 0 && id < size; };
  if (data.unknown_id != -1 && !is_piece(data.unknown_id)) {
    return absl::InvalidArgumentError(absl::StrFormat("the unknown token's id %d is not in the vocabulary", data.unknown_id));
  }
  bpe.byte_ids_.fill(-1);
  bpe.ids_.reserve(data.pieces.size());
  for (int32_t id = 0; id < size; ++id) {
    const std::string& piece = data.pieces[id];
    if (piece.empty()) continue;
    if (data.byte_level) {
      std::optional<std::string> bytes = BytesOfSpelling(piece);
      if (!bytes) continue;  // an added token in the vocabulary
      if (bytes->size() == 1) bpe.byte_ids_[static_cast<unsigned char>(bytes->front())] = id;
      bpe.ids_.emplace(*std::move(bytes), id);
    } else {
      if (std::optional<unsigned char> byte = ByteOfToken(piece)) bpe.byte_ids_[*byte] = id;
      bpe.ids_.emplace(piece, id);
    }
  }
  bpe.merges_.reserve(data.merges.size());
  for (const Merge& merge : data.merges) {
    if (!is_piece(merge.left) || !is_piece(merge.right) || !is_piece(merge.result)) {
      return absl::InvalidArgumentError(absl::StrFormat("merge %d (%d, %d -> %d) names an id outside the vocabulary of %d",
                                                        merge.rank, merge.left, merge.right, merge.result, size));
    }
    bpe.merges_.insert_or_assign(PairKey(merge.left, merge.right), Target{merge.result, merge.rank});
  }
  return bpe;
}

void Bpe::Encode(std::string_view word, std::vector<int32_t>& out) const {
  if (ignore_merges_) {
    if (const auto whole = ids_.find(word); whole != ids_.end()) {
      out.push_back(whole->second);
      return;
    }
  }
  std::vector<Symbol> symbols;
  AppendSymbols(word, symbols);
  if (symbols.empty()) return;
  for (size_t i = 0; i < symbols.size(); ++i) {
    symbols[i].previous = static_cast<int32_t>(i) - 1;
    symbols[i].next = i + 1 < symbols.size() ? static_cast<int32_t>(i) + 1 : -1;
  }
  MergeAll(symbols);
  for (int32_t i = 0; i != -1; i = symbols[i].next) out.push_back(symbols[i].id);
}

void Bpe::AppendSymbols(std::string_view word, std::vector<Symbol>& symbols) const {
  symbols.reserve(word.size());
  if (byte_level_) {
    for (size_t i = 0; i < word.size(); ++i) {
      const int32_t id = byte_ids_[static_cast<unsigned char>(word[i])];
      if (id >= 0) {
        symbols.push_back({id});
      } else {
        AppendUnknown(word.substr(i, 1), symbols);
      }
    }
    return;
  }
  while (!word.empty()) {
    const std::string_view character = word.substr(0, FirstUtf8Char(word).size);
    word.remove_prefix(character.size());
    if (const auto found = ids_.find(character); found != ids_.end()) {
      symbols.push_back({found->second});
    } else {
      AppendUnknown(character, symbols);
    }
  }
}

void Bpe::AppendUnknown(std::string_view character, std::vector<Symbol>& symbols) const {
  const auto id_of = [&](char byte) { return byte_ids_[static_cast<unsigned char>(byte)]; };
  if (byte_fallback_ && std::all_of(character.begin(), character.end(), [&](char byte) { return id_of(byte) >= 0; })) {
    for (char byte : character) symbols.push_back({id_of(byte)});
    return;
  }
  if (unknown_id_ < 0) return;
  if (fuse_unknown_ && !symbols.empty() && symbols.back().id == unknown_id_) return;
  symbols.push_back({unknown_id_});
}

// Merges the pair of the lowest rank, leftmost first, until none is left: O(n log n).
void Bpe::MergeAll(std::vector<Symbol>& symbols) const {
  struct Candidate {
    int32_t rank;
    int32_t left;  // index of the left symbol
    int32_t result;
    bool operator>(const Candidate& other) const { return rank != other.rank ? rank > other.rank : left > other.left; }
  };
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  constexpr int32_t kGone = -1;  // id of a symbol merged into its left neighbour
  const auto find = [&](int32_t left) -> const Target* {
    const int32_t right = symbols[left].next;
    if (right == -1) return nullptr;
    const auto found = merges_.find(PairKey(symbols[left].id, symbols[right].id));
    return found == merges_.end() ? nullptr : &found->second;
  };
  const auto consider = [&](int32_t left) {
    if (const Target* target = find(left)) queue.push({target->rank, left, target->result});
  };

  for (size_t i = 0; i + 1 < symbols.size(); ++i) consider(static_cast<int32_t>(i));
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol& left = symbols[best.left];
    if (left.id == kGone) continue;
    const Target* target = find(best.left);
    // An earlier merge has changed this pair.
    if (target == nullptr || target->rank != best.rank || target->result != best.result) continue;
    Symbol& right = symbols[left.next];
    left.id = best.result;
    left.next = right.next;
    right.id = kGone;
    if (left.next != -1) symbols[left.next].previous = best.left;
    if (left.previous != -1) consider(left.previous);
    consider(best.left);
  }
}

}  // namespace berth::text
