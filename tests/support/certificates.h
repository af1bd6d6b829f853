#pragma once

#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/support/files.h"

namespace berth::testing {

// A certificate authority in a folder of its own, made by the openssl program, which issues certificates for loopback.
class TestAuthority {
 public:
  TestAuthority() { Run(absl::StrCat("-subj /CN=authority -addext basicConstraints=critical,CA:TRUE ", Out("ca"))); }

  std::string ca() const { return folder_.PathOf("ca.pem"); }
  std::string cert(const std::string& name) const { return folder_.PathOf(name + ".pem"); }
  std::string key(const std::string& name) const { return folder_.PathOf(name + ".key"); }
  void Issue(const std::string& name) const {
    Run(absl::StrCat("-CA ", ca(), " -CAkey ", key("ca"), " -subj /CN=", name,
                     " -addext basicConstraints=CA:FALSE -addext subjectAltName=IP:127.0.0.1,DNS:localhost ", Out(name)));
  }

 private:
  std::string Out(const std::string& name) const { return absl::StrCat("-keyout ", key(name), " -out ", cert(name)); }
  static void Run(const std::string& arguments) {
    const std::string command = absl::StrCat("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 ",
                                             arguments, " 2>/dev/null");
    if (std::system(command.c_str()) != 0) std::abort();
  }

  const TempDir folder_;
};

}  // namespace berth::testing
