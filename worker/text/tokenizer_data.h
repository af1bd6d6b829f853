#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace berth::text {

// What to look for in a text: a literal, or an Oniguruma-style regular expression.
struct Pattern {
  std::string text;
  bool is_regex = false;
};

// A token that is found in the text before the model sees it.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;      // left out of decoded text; found only with EncodeOptions::parse_special
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // takes the white space after it along
  bool single_word = false;  // not found inside a word
  bool normalized = false;   // looked for in the normalized text, not in the text as given
};

struct NormalizerStep {
  enum class Kind { kNfc, kNfd, kNfkc, kNfkd, kLowercase, kStripAccents, kStrip, kPrepend, kReplace };
  Kind kind = Kind::kNfc;
  Pattern pattern;           // kReplace
  std::string content;       // kReplace, kPrepend
  bool strip_left = false;   // kStrip
  bool strip_right = false;  // kStrip
};

// What becomes of the matches of a split's pattern, as PyPI tokenizers names it.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// Cuts a text into the words that the model tokenizes one by one.
struct PreTokenizerStep {
  enum class Kind {
    kSplit,   // by `pattern`; `invert`: what lies between the matches counts as the match
    kPrefix,  // puts `prefix` before every word that does not start with it; `first_only`: only at the start of the whole text
  };
  Kind kind = Kind::kSplit;
  Pattern pattern;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;
  std::string prefix;
  bool first_only = false;
  std::string replace_spaces;  // kPrefix: what replaces U+0020 first; empty: nothing
};

// The pair (left, right) becomes `result`; the lowest rank goes first, among equals the leftmost.
struct Merge {
  int32_t left = 0;
  int32_t right = 0;
  int32_t result = 0;
  int32_t rank = 0;
};

struct DecoderRules {
  // How bytes that are no UTF-8 show.
  enum class BrokenBytes {
    kMaximalSubpart,  // U+FFFD per maximal part of a character, as Python's errors="replace"
    kPerByte,         // U+FFFD per byte (SentencePiece)
    kWholeRun,        // one bad byte makes every byte of its run of byte tokens U+FFFD (tokenizers' ByteFallback)
  };
  BrokenBytes broken = BrokenBytes::kMaximalSubpart;
  bool byte_tokens = false;              // <0xE4> stands for a byte
  std::string space;                     // what stands for U+0020 in pieces; empty: nothing does
  int32_t strip_start_spaces = 0;        // at most so many U+0020 are dropped at the start of a text
  bool keep_byte_spaces = false;         // a space from a byte token is not dropped at the start
  int32_t keep_spaces_of = -1;           // nor a space of this token (SentencePiece's unknown token)
  bool drop_first_token_spaces = false;  // every `space` in the first token is dropped (tokenizers' Metaspace)
};

// A tokenizer as plain data, whatever file it came from.
struct TokenizerData {
  enum class Model { kBpe, kUnigram, kSentencePiece };
  Model model = Model::kBpe;

  std::vector<std::string> pieces;  // by id; empty: no such id. Byte-level vocabularies spell bytes as GPT-2 does
  std::vector<AddedToken> added_tokens;

  // kUnigram
  std::vector<double> scores;  // log probabilities by id

  // kBpe; all but the first three of kUnigram too
  std::vector<Merge> merges;
  bool byte_level = false;     // words are bytes, spelled by GPT-2's 256 characters
  bool ignore_merges = false;  // a word that is a token needs no merges
  std::vector<NormalizerStep> normalizer;
  std::vector<PreTokenizerStep> pre_tokenizer;
  bool byte_fallback = false;  // characters outside the vocabulary become <0x..> tokens
  bool fuse_unknown = false;   // neighbouring unknown characters become one unknown token
  int32_t unknown_id = -1;     // -1: unknown characters vanish

  // kSentencePiece
  std::string sentencepiece_model;  // the serialized ModelProto; normalizer and pieces come from it
  bool prefix_first_only = false;   // the dummy prefix goes only before the start of the text, not after every added token
  std::vector<std::string> appended_tokens;  // special tokens whose ids follow the model's own
  std::vector<std::string> prefix_tokens;    // their ids become prefix_ids
  bool add_bos = false;  // prefix_ids and suffix_ids are bos_id and eos_id, which the model itself may supply
  bool add_eos = false;

  DecoderRules decoder;

  std::vector<int32_t> prefix_ids;  // put before a text by EncodeOptions::add_special
  std::vector<int32_t> suffix_ids;
  int32_t bos_id = -1;
  int32_t eos_id = -1;

  // Not used by the tokenizer itself, but found in the same files.
  std::vector<int32_t> generation_eos_ids;  // every id that ends a generation
  std::string chat_template;                // empty: none
};

}  // namespace berth::text
