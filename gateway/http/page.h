#pragma once

#include <string_view>

namespace berth::http {

// A file of the web page; its bytes are part of the program.
struct PageFile {
  std::string_view path;  // of the request
  std::string_view content_type;
  std::string_view etag;  // quoted, as the header has it
  std::string_view body;
};

// The file at a request's path; null: there is none. Any thread.
const PageFile* FindPageFile(std::string_view path);

// An If-None-Match header names the file's ETag, so that the caller's copy is good.
bool IsUnchanged(const PageFile& file, std::string_view if_none_match);

// Content-Security-Policy: the page's own files and requests to the gateway, and nothing inline.
inline constexpr char kPagePolicy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'";

}  // namespace berth::http
