#pragma once

namespace berth::base {

// The deleter of a std::unique_ptr to a C library's object: Freer<BIO_free>.
template <auto kFree>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};

}  // namespace berth::base
