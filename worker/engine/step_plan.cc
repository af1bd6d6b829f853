#include "worker/engine/step_plan.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status.h"

namespace berth::engine {
namespace {

constexpr uint32_t kMagic = 0x4e4c5042;  // "BPLN"

enum Section { kRetires, kAdmits, kBlocks, kRows, kBiases, kTokens, kMasks, kSections };

// The buffer: this header, then the sections in the order above, each padded to a multiple of 8 bytes.
struct Header {
  uint32_t magic = kMagic;
  uint32_t version = StepPlan::kVersion;
  uint64_t step = 0;
  uint32_t counts[kSections] = {};
};

constexpr size_t kRecordBytes[kSections] = {sizeof(RetireRecord), sizeof(AdmitRecord), sizeof(BlockRecord), sizeof(RowRecord),
                                            sizeof(BiasRecord),   sizeof(int32_t),     sizeof(uint32_t)};
static_assert(sizeof(Header) == 48 && sizeof(RetireRecord) == 8 && sizeof(AdmitRecord) == 104 && sizeof(BlockRecord) == 16 &&
                  sizeof(RowRecord) == 40 && sizeof(BiasRecord) == 8,
              "the layout is the format: raise StepPlan::kVersion");
static_assert(std::is_trivially_copyable_v<AdmitRecord> && std::is_trivially_copyable_v<RowRecord>);

constexpr size_t kHeaderWords = sizeof(Header) / sizeof(uint64_t);

Header ReadHeader(absl::Span<const uint64_t> words) {
  Header header;
  if (!words.empty()) std::memcpy(static_cast<void*>(&header), words.data(), sizeof(header));
  return header;
}

size_t SectionWords(const Header& header, int section) {
  return (size_t{header.counts[section]} * kRecordBytes[section] + 7) / 8;
}

size_t SectionBegin(const Header& header, int section) {
  size_t begin = kHeaderWords;
  for (int i = 0; i < section; ++i) begin += SectionWords(header, i);
  return begin;
}

template <typename Record>
absl::Span<const Record> ReadSection(absl::Span<const uint64_t> words, int section) {
  if (words.empty()) return {};
  const Header header = ReadHeader(words);
  return {reinterpret_cast<const Record*>(words.data() + SectionBegin(header, section)), header.counts[section]};
}

template <typename Record>
void WriteSection(std::vector<uint64_t>& words, const Header& header, int section, const std::vector<Record>& records) {
  if (records.empty()) return;
  std::memcpy(words.data() + SectionBegin(header, section), records.data(), records.size() * sizeof(Record));
}

bool InRange(int64_t begin, int64_t count, size_t size) {
  return begin >= 0 && count >= 0 && begin + count <= static_cast<int64_t>(size);
}

absl::Status Bad(const char* what, size_t index) {
  return absl::InvalidArgumentError(absl::StrCat("step plan: ", what, " ", index, " is out of range"));
}

absl::Status CheckAdmit(const StepPlan& plan, size_t index) {
  const AdmitRecord& admit = plan.admits()[index];
  const absl::Span<const int32_t> tokens = plan.tokens();
  const bool ranges = admit.slot >= 0 && InRange(admit.history_begin, admit.history_length, tokens.size()) &&
                      InRange(0, admit.prompt_length, admit.history_length < 0 ? 0 : admit.history_length) &&
                      admit.min_length >= 0 && InRange(admit.stop_begin, admit.stop_count, tokens.size()) &&
                      InRange(admit.bias_begin, admit.bias_count, plan.biases().size());
  if (!ranges || admit.bad_words_begin < 0 || admit.bad_words_count < 0) return Bad("admit", index);
  int64_t at = admit.bad_words_begin;
  for (int i = 0; i < admit.bad_words_count; ++i) {
    if (!InRange(at, 1, tokens.size()) || !InRange(at + 1, tokens[at], tokens.size())) return Bad("bad words of admit", index);
    at += 1 + int64_t{tokens[at]};
  }
  return absl::OkStatus();
}

absl::Status CheckRows(const StepPlan& plan) {
  std::vector<int32_t> slots;
  for (size_t i = 0; i < plan.rows().size(); ++i) {
    const RowRecord& row = plan.rows()[i];
    const bool tokens =
        row.token_begin == RowRecord::kLastSampled ? row.count == 1 : InRange(row.token_begin, row.count, plan.tokens().size());
    const bool fits = int64_t{row.position} + row.count <= INT32_MAX;
    const bool mask = InRange(row.mask_begin, row.mask_words, plan.masks().size());
    const bool score = row.score == 0 || (row.score > 0 && row.score <= row.count && row.token_begin >= 0 &&
                                          InRange(row.token_begin, int64_t{row.score} + 1, plan.tokens().size()));
    if (row.slot < 0 || row.position < 0 || row.count < 1 || !fits || !tokens || (row.sample | 1) != 1 || !mask || !score)
      return Bad("row", i);
    slots.push_back(row.slot);
  }
  std::sort(slots.begin(), slots.end());
  const auto twice = std::adjacent_find(slots.begin(), slots.end());
  if (twice == slots.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("step plan: two rows name slot ", *twice));
}

absl::Status CheckRecords(const StepPlan& plan) {
  for (size_t i = 0; i < plan.retires().size(); ++i) {
    if (plan.retires()[i].slot < 0) return Bad("retire", i);
  }
  for (size_t i = 0; i < plan.admits().size(); ++i) BERTH_RETURN_IF_ERROR(CheckAdmit(plan, i));
  for (size_t i = 0; i < plan.blocks().size(); ++i) {
    const BlockRecord& block = plan.blocks()[i];
    if (block.slot < 0 || block.group < 0 || block.index < 0 || block.block < 0) return Bad("block", i);
  }
  return CheckRows(plan);
}

}  // namespace

absl::StatusOr<StepPlan> StepPlan::FromBytes(absl::Span<const std::byte> bytes) {
  if (bytes.size() < sizeof(Header) || bytes.size() % sizeof(uint64_t) != 0) {
    return absl::InvalidArgumentError(absl::StrCat("step plan: ", bytes.size(), " bytes are no plan"));
  }
  StepPlan plan;
  plan.words_.resize(bytes.size() / sizeof(uint64_t));
  std::memcpy(plan.words_.data(), bytes.data(), bytes.size());
  const Header header = ReadHeader(plan.words_);
  if (header.magic != kMagic) return absl::InvalidArgumentError(absl::StrCat("step plan: magic ", header.magic));
  if (header.version != kVersion) {
    return absl::InvalidArgumentError(absl::StrCat("step plan: version ", header.version, ", want ", kVersion));
  }
  const size_t want = SectionBegin(header, kSections);
  if (want != plan.words_.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("step plan: ", bytes.size(), " bytes, the counts want ", want * sizeof(uint64_t)));
  }
  BERTH_RETURN_IF_ERROR(CheckRecords(plan));
  return plan;
}

absl::Span<const std::byte> StepPlan::bytes() const {
  return {reinterpret_cast<const std::byte*>(words_.data()), words_.size() * sizeof(uint64_t)};
}

uint64_t StepPlan::step() const { return ReadHeader(words_).step; }

bool StepPlan::empty() const { return words_.size() <= kHeaderWords; }

absl::Span<const RetireRecord> StepPlan::retires() const { return ReadSection<RetireRecord>(words_, kRetires); }
absl::Span<const AdmitRecord> StepPlan::admits() const { return ReadSection<AdmitRecord>(words_, kAdmits); }
absl::Span<const BlockRecord> StepPlan::blocks() const { return ReadSection<BlockRecord>(words_, kBlocks); }
absl::Span<const RowRecord> StepPlan::rows() const { return ReadSection<RowRecord>(words_, kRows); }
absl::Span<const BiasRecord> StepPlan::biases() const { return ReadSection<BiasRecord>(words_, kBiases); }
absl::Span<const int32_t> StepPlan::tokens() const { return ReadSection<int32_t>(words_, kTokens); }
absl::Span<const uint32_t> StepPlan::masks() const { return ReadSection<uint32_t>(words_, kMasks); }

void StepPlanBuilder::Admit(AdmitRecord record, const SequenceSpec& spec, absl::Span<const int32_t> tokens) {
  const auto append = [this](absl::Span<const int32_t> values) {
    const auto begin = static_cast<int32_t>(tokens_.size());
    tokens_.insert(tokens_.end(), values.begin(), values.end());
    return begin;
  };
  record.history_begin = append(tokens);
  record.history_length = static_cast<int32_t>(tokens.size());
  record.prompt_length = spec.prompt_length;
  record.min_length = spec.prompt_length + spec.min_tokens;
  record.stop_begin = append(spec.stop_tokens);
  record.stop_count = static_cast<int32_t>(spec.stop_tokens.size());
  record.bias_begin = static_cast<int32_t>(biases_.size());
  record.bias_count = static_cast<int32_t>(spec.logit_bias.size());
  for (const auto& [token, value] : spec.logit_bias) biases_.push_back({.token = token, .value = value});
  record.bad_words_begin = static_cast<int32_t>(tokens_.size());
  record.bad_words_count = static_cast<int32_t>(spec.bad_words.size());
  for (const std::vector<int32_t>& word : spec.bad_words) {
    tokens_.push_back(static_cast<int32_t>(word.size()));
    append(word);
  }
  record.rope_variant = spec.rope_variant;
  record.sampling = spec.sampling;
  admits_.push_back(record);
}

void StepPlanBuilder::Row(RowRecord record, absl::Span<const int32_t> tokens, absl::Span<const int32_t> next) {
  record.count = static_cast<int32_t>(tokens.size());
  record.token_begin = static_cast<int32_t>(tokens_.size());
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  tokens_.insert(tokens_.end(), next.begin(), next.end());
  rows_.push_back(record);
}

void StepPlanBuilder::Mask(TokenConstraint& constraint, RowRecord& row) {
  row.mask_begin = static_cast<int32_t>(masks_.size());
  row.mask_words = constraint.mask_words();
  masks_.resize(masks_.size() + row.mask_words);
  constraint.FillMask(absl::MakeSpan(masks_).subspan(row.mask_begin));
}

StepPlan StepPlanBuilder::Build() const {
  Header header;
  header.step = step_;
  const size_t counts[kSections] = {retires_.size(), admits_.size(), blocks_.size(), rows_.size(),
                                    biases_.size(),  tokens_.size(), masks_.size()};
  for (int i = 0; i < kSections; ++i) header.counts[i] = static_cast<uint32_t>(counts[i]);
  StepPlan plan;
  plan.words_.resize(SectionBegin(header, kSections));
  std::memcpy(plan.words_.data(), &header, sizeof(header));
  WriteSection(plan.words_, header, kRetires, retires_);
  WriteSection(plan.words_, header, kAdmits, admits_);
  WriteSection(plan.words_, header, kBlocks, blocks_);
  WriteSection(plan.words_, header, kRows, rows_);
  WriteSection(plan.words_, header, kBiases, biases_);
  WriteSection(plan.words_, header, kTokens, tokens_);
  WriteSection(plan.words_, header, kMasks, masks_);
  return plan;
}

}  // namespace berth::engine
