#include "worker/service/content_log.h"

#include <algorithm>
#include <iterator>

#include "base/hash.h"

namespace berth::service {
namespace {

using Kind = text::OutputPiece::Kind;

// Some templates want ids of exactly so many letters and digits.
constexpr int kCallIdSize = 9;

}  // namespace

ContentLog::ContentLog(const ContentRules& rules) : call_seed_(rules.call_seed) {
  if (rules.format.tools == text::ToolFormat::kNone && !rules.format.reasoning) return;
  parser_.emplace(rules.format, rules.opens_reasoning, rules.tool_names);
  Append(rules.opening);
}

void ContentLog::Append(std::string_view text) {
  if (!parser_.has_value()) {
    content_.append(text);
    return;
  }
  std::vector<text::OutputPiece> pieces;
  parser_->Append(text, pieces);
  Take(pieces);
}

void ContentLog::Finish() {
  if (!parser_.has_value()) return;
  std::vector<text::OutputPiece> pieces;
  parser_->Finish(pieces);
  Take(pieces);
}

void ContentLog::Take(const std::vector<text::OutputPiece>& pieces) {
  for (const text::OutputPiece& piece : pieces) {
    if (parts_.empty() || parts_.back().kind != piece.kind || parts_.back().call != piece.call) {
      parts_.push_back({.begin = content_.size(), .kind = piece.kind, .call = piece.call});
    }
    content_.append(piece.text);
    has_calls_ |= piece.kind == Kind::kCallName;
  }
}

void ContentLog::Truncate(size_t size) {
  content_.resize(std::min(size, content_.size()));
  while (!parts_.empty() && parts_.back().begin >= content_.size()) parts_.pop_back();
}

std::vector<ContentLog::Part>::const_iterator ContentLog::NextPart(size_t position) const {
  return std::upper_bound(parts_.begin(), parts_.end(), position, [](size_t at, const Part& part) { return at < part.begin; });
}

size_t ContentLog::PartEnd(size_t begin) const {
  const auto next = NextPart(begin);
  return next == parts_.end() ? content_.size() : next->begin;
}

void ContentLog::Fill(size_t begin, size_t end, v1::Delta* delta) const {
  const std::string_view content = std::string_view(content_).substr(begin, end - begin);
  if (content.empty() && parser_.has_value()) return;
  const auto next = NextPart(begin);
  const Part part = next == parts_.begin() ? Part{} : *std::prev(next);
  if (part.kind == Kind::kText) return delta->set_text(content.data(), content.size());
  if (part.kind == Kind::kReasoning) return delta->set_reasoning(content.data(), content.size());
  v1::ToolCallDelta& call = *delta->mutable_tool_call();
  call.set_index(part.call);
  if (part.kind == Kind::kCallArguments) return call.set_arguments_delta(content.data(), content.size());
  call.set_id(CallId(part.call));
  call.set_name(content.data(), content.size());
}

std::string ContentLog::CallId(int call) const {
  constexpr std::string_view kDigits = "0123456789abcdefghijklmnopqrstuvwxyz";
  uint64_t hash = base::HashCombine(call_seed_, call);
  std::string id;
  for (int i = 0; i < kCallIdSize; ++i) {
    id.push_back(kDigits[hash % kDigits.size()]);
    hash /= kDigits.size();
  }
  return id;
}

}  // namespace berth::service
