#include "worker/text/added_tokens.h"

#include <algorithm>
#include <utility>

#include "worker/text/utf8.h"

namespace berth::text {

AddedTokenMatcher::AddedTokenMatcher(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (!tokens_[i].content.empty()) trie_.Insert(tokens_[i].content, static_cast<int32_t>(i));
  }
}

std::vector<AddedTokenMatcher::Segment> AddedTokenMatcher::Split(std::string_view text, bool find_special) const {
  std::vector<Segment> segments;
  size_t done = 0;  // everything before is in `segments`
  for (size_t at = 0; at < text.size();) {
    const ByteTrie::Match match = trie_.LongestPrefix(text.substr(at));
    if (match.value < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[match.value];
    size_t begin = at;
    size_t end = at + match.size;
    at = end;
    if (token.special && !find_special) continue;
    if (token.single_word && (EndsWithWord(text.substr(0, begin)) || StartsWithWord(text.substr(end)))) continue;
    if (token.lstrip) begin = std::max(begin - TrailingSpace(text.substr(0, begin)), done);
    if (token.rstrip) end += LeadingSpace(text.substr(end));
    if (done < begin) segments.push_back({text.substr(done, begin - done), -1});
    segments.push_back({text.substr(begin, end - begin), token.id});
    done = at = end;
  }
  if (done < text.size()) segments.push_back({text.substr(done), -1});
  return segments;
}

}  // namespace berth::text
