#include "tests/worker/text/golden.h"

#include <algorithm>
#include <fstream>
#include <sstream>

#include "absl/strings/str_format.h"
#include "gtest/gtest.h"

namespace berth::text {
namespace {

constexpr int kDecodeCases = 400;
constexpr int kFailuresShown = 5;

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::string Unescape(const std::string& line) {
  std::string out;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] != '\\') {
      out.push_back(line[i]);
      continue;
    }
    const char c = line[++i];
    out.push_back(c == 'n' ? '\n' : c == 'r' ? '\r' : c == '0' ? '\0' : c);
  }
  return out;
}

std::string Join(const std::vector<int32_t>& ids) {
  std::string out;
  for (int32_t id : ids) out.append(std::to_string(id)).append(" ");
  return out;
}

}  // namespace

std::string ReadGolden(const std::string& name) {
  std::ifstream in("tests/golden/text/" + name, std::ios::binary);
  EXPECT_TRUE(in.good()) << name;
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

std::vector<std::string> ReadGoldenLines(const std::string& name) {
  std::vector<std::string> texts;
  for (const std::string& line : Lines(ReadGolden(name))) texts.push_back(Unescape(line));
  return texts;
}

std::vector<std::string> ReadCorpus() { return ReadGoldenLines("corpus.txt"); }

std::string GoldenHash(std::string_view bytes) {
  uint64_t hash = 0xCBF29CE484222325;
  for (unsigned char byte : bytes) hash = (hash ^ byte) * 0x100000001B3;
  return absl::StrFormat("%08x", hash >> 32);
}

std::string GoldenHash(const std::vector<int32_t>& ids) {
  std::string bytes;
  for (int32_t id : ids) {
    for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<char>(id >> shift));
  }
  return GoldenHash(bytes);
}

std::vector<std::vector<int32_t>> GoldenIdLists(int32_t size) {
  uint64_t state = 1;
  const auto draw = [&](int32_t n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<int32_t>((state >> 33) % n);
  };
  std::vector<std::vector<int32_t>> lists;
  for (int i = 0; i < kDecodeCases; ++i) {
    const int32_t span = i % 2 == 0 ? size : std::min(size, 300);
    std::vector<int32_t>& ids = lists.emplace_back(1 + draw(24));
    for (int32_t& id : ids) id = draw(span);
  }
  return lists;
}

void ExpectGoldenIds(const Tokenizer& tokenizer, const std::string& name, const EncodeOptions& options,
                     const std::string& before, const std::string& after) {
  const std::vector<std::string> texts = ReadCorpus();
  const std::vector<std::string> want = Lines(ReadGolden(name + ".ids"));
  ASSERT_EQ(texts.size(), want.size());
  ASSERT_GE(texts.size(), 2000u);
  int failures = 0;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (want[i] == "-") continue;
    const auto ids = tokenizer.Encode(before + texts[i] + after, options);
    ASSERT_TRUE(ids.ok()) << ids.status();
    if (GoldenHash(*ids) == want[i]) continue;
    if (++failures <= kFailuresShown)
      ADD_FAILURE() << name << ", line " << i + 1 << ": \"" << texts[i] << "\" gives " << Join(*ids);
  }
  EXPECT_EQ(failures, 0) << "of " << texts.size() << " lines";
}

void ExpectGoldenTexts(const Tokenizer& tokenizer, const std::string& name, bool always_skip) {
  const std::vector<std::string> want = Lines(ReadGolden(name + ".texts"));
  const std::vector<std::vector<int32_t>> lists = GoldenIdLists(tokenizer.size());
  ASSERT_EQ(lists.size(), want.size());
  int failures = 0;
  for (size_t i = 0; i < lists.size(); ++i) {
    const std::string text = tokenizer.Decode(lists[i], always_skip || lists[i].size() % 2 == 0);
    if (GoldenHash(text) == want[i]) continue;
    if (++failures <= kFailuresShown)
      ADD_FAILURE() << name << ", list " << i + 1 << ": " << Join(lists[i]) << "gives \"" << text << '"';
  }
  EXPECT_EQ(failures, 0) << "of " << lists.size() << " lists";
}

}  // namespace berth::text
