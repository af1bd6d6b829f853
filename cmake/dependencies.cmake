# Everything Berth links that is not its own, each behind one berth:: name. All of it comes from Debian packages.

find_package(Threads REQUIRED)
find_package(absl REQUIRED)
find_package(Protobuf REQUIRED)
find_package(gRPC REQUIRED)
find_package(prometheus-cpp REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(hwy REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(Boost 1.81 REQUIRED)
find_package(SQLite3 REQUIRED)
find_package(ICU REQUIRED COMPONENTS uc i18n)
find_package(GTest REQUIRED)
find_package(benchmark REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(SENTENCEPIECE REQUIRED IMPORTED_TARGET sentencepiece)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
get_target_property(GRPC_CPP_PLUGIN gRPC::grpc_cpp_plugin LOCATION)

function(berth_dependency name)
  add_library(berth_dep_${name} INTERFACE)
  target_link_libraries(berth_dep_${name} INTERFACE ${ARGN})
  add_library(berth::${name} ALIAS berth_dep_${name})
endfunction()

if(BERTH_STATIC)
  # Measured: about 30 % less CPU per message than the shared libraries, and nothing of gRPC to carry to another host.
  file(GLOB absl_archives /usr/lib/*/libabsl_*.a)
  foreach(lib grpc++ grpc++_reflection grpc gpr upb address_sorting re2 protobuf)
    find_library(BERTH_${lib}_A lib${lib}.a REQUIRED)
    list(APPEND grpc_archives ${BERTH_${lib}_A})
  endforeach()
  find_library(BERTH_CARES cares REQUIRED)
  set(group -Wl,--start-group ${grpc_archives} ${absl_archives} -Wl,--end-group
      ${BERTH_CARES} OpenSSL::SSL OpenSSL::Crypto z dl rt Threads::Threads)
  berth_dependency(absl ${group})
  berth_dependency(grpc ${group})
else()
  berth_dependency(absl absl::status absl::statusor absl::strings absl::str_format absl::cord absl::flat_hash_map
    absl::flat_hash_set absl::inlined_vector absl::span absl::time absl::bind_front absl::hash absl::synchronization
    absl::any_invocable absl::cleanup absl::node_hash_map absl::random_random absl::fixed_array Threads::Threads)
  berth_dependency(grpc gRPC::grpc++ gRPC::grpc++_reflection protobuf::libprotobuf berth::absl)
endif()
berth_dependency(prometheus prometheus-cpp::core)
berth_dependency(log spdlog::spdlog)
berth_dependency(json nlohmann_json::nlohmann_json)
berth_dependency(highway hwy::hwy)
berth_dependency(openssl OpenSSL::SSL OpenSSL::Crypto)
berth_dependency(boost Boost::headers)
berth_dependency(sqlite SQLite::SQLite3)
berth_dependency(icu ICU::uc ICU::i18n)
# libsentencepiece.so exports an old protobuf-lite of its own. Static programs keep theirs to themselves, so that neither finds the
# other's. Shared ones that use the whole Protobuf find that one first, and cannot load SentencePiece models; those that do not use
# it are linked without it.
berth_dependency(sentencepiece PkgConfig::SENTENCEPIECE)
if(BERTH_STATIC)
  target_link_options(berth_dep_sentencepiece INTERFACE -Wl,--exclude-libs,ALL)
else()
  target_link_options(berth_dep_sentencepiece INTERFACE
    -Wl,--push-state,--as-needed $<TARGET_FILE:protobuf::libprotobuf> -Wl,--pop-state)
endif()
berth_dependency(pcre2 PkgConfig::PCRE2)
