#include <algorithm>
#include <array>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "base/status.h"
#include "worker/text/byte_spelling.h"
#include "worker/text/byte_trie.h"
#include "worker/text/pre_tokenizer.h"
#include "worker/text/string_map.h"
#include "worker/text/utf8.h"
#include "worker/text/vocabulary_tokenizer.h"

namespace berth::text {
namespace {

constexpr double kUnknownPenalty = 10;  // of a character without a token, below the lowest score (SentencePiece)

// Cuts words into the pieces whose scores have the largest sum. Immutable and thread-safe.
class Unigram {
 public:
  static absl::StatusOr<Unigram> Make(const TokenizerData& data) {
    const auto size = static_cast<int32_t>(data.pieces.size());
    if (data.scores.size() != data.pieces.size()) {
      return absl::InvalidArgumentError(absl::StrFormat("%d scores for %d pieces", data.scores.size(), data.pieces.size()));
    }
    if (data.unknown_id < -1 || data.unknown_id >= size) {
      return absl::InvalidArgumentError(absl::StrFormat("the unknown token's id %d is not in the vocabulary", data.unknown_id));
    }
    Unigram unigram;
    unigram.scores_ = data.scores;
    unigram.unknown_id_ = data.unknown_id;
    unigram.fuse_unknown_ = data.fuse_unknown;
    unigram.byte_fallback_ = data.byte_fallback;
    unigram.byte_ids_.fill(-1);
    double lowest = std::numeric_limits<double>::infinity();
    for (int32_t id = 0; id < size; ++id) {
      const std::string& piece = data.pieces[id];
      lowest = std::min(lowest, data.scores[id]);
      if (piece.empty()) continue;
      if (const std::optional<unsigned char> byte = ByteOfToken(piece)) unigram.byte_ids_[*byte] = id;
      unigram.trie_.Insert(piece, id);
      unigram.ids_.insert_or_assign(piece, id);
    }
    unigram.unknown_score_ = lowest - kUnknownPenalty;
    return unigram;
  }

  // Appends the ids of `word` (UTF-8).
  absl::Status Encode(std::string_view word, std::vector<int32_t>& out) const {
    std::vector<Node> nodes(word.size() + 1);
    for (size_t at = 0; at < word.size();) {
      const size_t character = FirstUtf8Char(word.substr(at)).size;
      bool alone = false;
      trie_.ForEachPrefix(word.substr(at), [&](int32_t id, size_t size) {
        Improve(nodes, at, size, id, scores_[id]);
        alone = alone || size == character;
      });
      if (!alone) {
        if (unknown_id_ < 0) {
          return absl::InvalidArgumentError(
              absl::StrFormat("no token for \"%s\", and the tokenizer has no unknown token", word.substr(at, character)));
        }
        Improve(nodes, at, character, unknown_id_, unknown_score_);
      }
      at += character;
    }
    for (const std::string_view piece : BestPath(word, nodes)) AppendIds(piece, out);
    return absl::OkStatus();
  }

 private:
  // The best cut of the text up to a place.
  struct Node {
    int32_t id = -1;  // of its last piece
    size_t begin = 0;
    double score = 0;
    bool reached = false;
  };

  static void Improve(std::vector<Node>& nodes, size_t at, size_t size, int32_t id, double score) {
    Node& node = nodes[at + size];
    const double total = nodes[at].score + score;
    if (!node.reached || total > node.score) node = {.id = id, .begin = at, .score = total, .reached = true};
  }

  // Neighbouring unknown characters are one piece when they fuse.
  std::vector<std::string_view> BestPath(std::string_view word, const std::vector<Node>& nodes) const {
    std::vector<std::string_view> pieces;
    bool after_unknown = false;
    for (size_t end = word.size(); end > 0; end = nodes[end].begin) {
      const std::string_view piece = word.substr(nodes[end].begin, end - nodes[end].begin);
      const bool unknown = fuse_unknown_ && nodes[end].id == unknown_id_;
      if (unknown && after_unknown) {
        pieces.back() = std::string_view(piece.data(), piece.size() + pieces.back().size());
      } else {
        pieces.push_back(piece);
      }
      after_unknown = unknown;
    }
    std::reverse(pieces.begin(), pieces.end());
    return pieces;
  }

  void AppendIds(std::string_view piece, std::vector<int32_t>& out) const {
    const auto id_of = [&](char byte) { return byte_ids_[static_cast<unsigned char>(byte)]; };
    if (const auto found = ids_.find(piece); found != ids_.end()) {
      out.push_back(found->second);
    } else if (byte_fallback_ && std::all_of(piece.begin(), piece.end(), [&](char byte) { return id_of(byte) >= 0; })) {
      for (const char byte : piece) out.push_back(id_of(byte));
    } else {
      out.push_back(unknown_id_);
    }
  }

  std::vector<double> scores_;
  ByteTrie trie_;
  StringToId ids_;
  std::array<int32_t, 256> byte_ids_;
  int32_t unknown_id_ = -1;
  double unknown_score_ = 0;
  bool fuse_unknown_ = false;
  bool byte_fallback_ = false;
};

class UnigramTokenizer final : public VocabularyTokenizer {
 public:
  UnigramTokenizer(Parts parts, PreTokenizer pre_tokenizer, Unigram unigram)
      : VocabularyTokenizer(std::move(parts)), pre_tokenizer_(std::move(pre_tokenizer)), unigram_(std::move(unigram)) {}

 private:
  absl::Status EncodeText(std::string_view text, bool at_start, std::vector<int32_t>& out) const override {
    BERTH_ASSIGN_OR_RETURN(const Words words, pre_tokenizer_.Split(text, at_start));
    for (const std::string_view word : words.words) BERTH_RETURN_IF_ERROR(unigram_.Encode(word, out));
    return absl::OkStatus();
  }

  const PreTokenizer pre_tokenizer_;
  const Unigram unigram_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeUnigramTokenizer(const TokenizerData& data) {
  BERTH_ASSIGN_OR_RETURN(VocabularyTokenizer::Parts parts, VocabularyTokenizer::MakeParts(data));
  BERTH_ASSIGN_OR_RETURN(PreTokenizer pre_tokenizer, PreTokenizer::Make(data.pre_tokenizer));
  BERTH_ASSIGN_OR_RETURN(Unigram unigram, Unigram::Make(data));
  return std::make_unique<UnigramTokenizer>(std::move(parts), std::move(pre_tokenizer), std::move(unigram));
}

}  // namespace berth::text
