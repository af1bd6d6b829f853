#include "gateway/http/page.h"

namespace berth::http {
namespace {

constexpr PageFile kPageFiles[] = {
#include "gateway/http/page_files.inc"
};

}  // namespace

const PageFile* FindPageFile(std::string_view path) {
  for (const PageFile& file : kPageFiles) {
    if (file.path == path) return &file;
  }
  return nullptr;
}

bool IsUnchanged(const PageFile& file, std::string_view if_none_match) {
  return if_none_match == "*" || if_none_match.find(file.etag) != std::string_view::npos;
}

}  // namespace berth::http
