# The functions that every room's CMakeLists.txt uses.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")  # kernels/cpu asks for more; elsewhere a fifth of the build's time would buy nothing

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

add_compile_options(
  "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Werror;-Wno-unused-parameter;-Wno-missing-field-initializers>")
if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND CMAKE_BUILD_TYPE STREQUAL Release)
  # When it optimises, GCC 12 sees both inside libstdc++'s string where they are not.
  add_compile_options(-Wno-restrict -Wno-maybe-uninitialized)
endif()
add_link_options(-fuse-ld=lld)
if(BERTH_SANITIZE)
  add_compile_options(-fsanitize=${BERTH_SANITIZE} -fno-omit-frame-pointer -g1)
  if(BERTH_SANITIZE MATCHES undefined)
    # Clang 14 cannot place what `function` looks at when functions have sections of their own.
    add_compile_options(-fno-sanitize=function -fno-sanitize-recover=all)
  endif()
  if(BERTH_SANITIZE MATCHES thread)
    add_compile_definitions(BERTH_THREAD_SANITIZER)  # GCC and Clang tell of it in different ways
  endif()
  add_link_options(-fsanitize=${BERTH_SANITIZE})
endif()

# A target's sources are compiled a few at a time, except in Debug: parsing gRPC's, Abseil's and GoogleTest's headers is most of the
# work. The joined files name their parts from the repository's root, unlike CMake's own, so that ccache serves every checkout.
# SEPARATE is for those that cannot share a translation unit (Highway's targets, tables that bear one name in every file).
function(berth_join name)
  if(CMAKE_BUILD_TYPE STREQUAL Debug)
    return()
  endif()
  get_target_property(sources ${name} SOURCES)
  list(FILTER sources INCLUDE REGEX "\\.cc$")
  set_source_files_properties(${sources} PROPERTIES HEADER_FILE_ONLY ON)
  set(count 0)
  foreach(source ${sources})
    get_filename_component(path ${source} ABSOLUTE)
    file(RELATIVE_PATH path ${PROJECT_SOURCE_DIR} ${path})
    math(EXPR batch "${count} / 6")
    string(APPEND joined_${batch} "#include \"${path}\"\n")
    math(EXPR count "${count} + 1")
  endforeach()
  foreach(batch RANGE ${batch})
    set(path ${CMAKE_CURRENT_BINARY_DIR}/${name}_${batch}.cc)
    file(CONFIGURE OUTPUT ${path} CONTENT "${joined_${batch}}" @ONLY)
    target_sources(${name} PRIVATE ${path})
  endforeach()
  target_compile_options(${name} PRIVATE "$<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-subobject-linkage>")
endfunction()

# Under a sanitizer half of the compiler's time would go into optimising what gRPC's and Beast's headers expand to. Only rooms that
# compute are worth it, and the loader, whose tests take twice as long without.
function(berth_sanitize name deps)
  if(BERTH_SANITIZE AND "${deps}" MATCHES "berth::(proto|rpc|grpc|boost|gateway|service)|GTest|program")
    target_compile_options(${name} PRIVATE -O0)
  endif()
endfunction()

# berth_library(NAME [SEPARATE] SRCS ... DEPS ...): the library of one room, seen as berth::NAME. A room without SRCS is headers only.
function(berth_library name)
  cmake_parse_arguments(ARG "SEPARATE" "" "SRCS;DEPS" ${ARGN})
  if(ARG_SRCS)
    add_library(berth_${name} STATIC ${ARG_SRCS})
    if(NOT ARG_SEPARATE)
      berth_join(berth_${name})
    endif()
    berth_sanitize(berth_${name} "${ARG_DEPS}")
    set(scope PUBLIC)
  else()
    add_library(berth_${name} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_include_directories(berth_${name} ${scope} ${PROJECT_SOURCE_DIR})
  target_link_libraries(berth_${name} ${scope} ${ARG_DEPS})
  add_library(berth::${name} ALIAS berth_${name})
endfunction()

# berth_program(NAME SRCS ... DEPS ...): an executable in build/<preset>/bin. In a bundle (deploy/bundle) it finds the libraries that
# came with it, and those find each other: the older kind of run path counts for them too.
function(berth_program name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SRCS})
  berth_sanitize(${name} program)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
  target_link_options(${name} PRIVATE -Wl,--disable-new-dtags)
  set_target_properties(${name} PROPERTIES BUILD_RPATH "$ORIGIN/../lib")
endfunction()

# berth_test(NAME [SEPARATE] SRCS ... DEPS ... LABELS ... [TIMEOUT s]): one GoogleTest program per room under test. Its working directory is
# the repository root, so that golden files are named by their path in the repository. Labels: unit, property, op, text, model,
# service, cluster, e2e, fuzz; slow and gpu are left out by tests/run; `threads` marks what ThreadSanitizer has to see.
function(berth_test name)
  cmake_parse_arguments(ARG "SEPARATE" "TIMEOUT" "SRCS;DEPS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SRCS})
  if(NOT ARG_SEPARATE)
    berth_join(${name})
  endif()
  if(CMAKE_BUILD_TYPE STREQUAL Release)
    target_compile_options(${name} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:-O1>")
  endif()
  berth_sanitize(${name} GTest)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT})
  if(BERTH_SANITIZE MATCHES thread)
    set_tests_properties(${name} PROPERTIES ENVIRONMENT
      "TSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tests/support/tsan.supp ignore_noninstrumented_modules=1")
  endif()
  # tests_<label> builds the programs of one label, so that a sanitizer build makes no more than it runs.
  foreach(label ${ARG_LABELS})
    if(NOT TARGET tests_${label})
      add_custom_target(tests_${label})
    endif()
    add_dependencies(tests_${label} ${name})
  endforeach()
endfunction()

# berth_proto(NAME PROTOS ... [GRPC]): C++ from .proto files under proto/, included as "proto/berth/v1/x.pb.h".
function(berth_proto name)
  cmake_parse_arguments(ARG "GRPC" "" "PROTOS;DEPS" ${ARGN})
  set(out ${PROJECT_BINARY_DIR}/generated/proto)
  set(root ${PROJECT_SOURCE_DIR}/proto)
  file(MAKE_DIRECTORY ${out})
  set(sources)
  foreach(proto ${ARG_PROTOS})
    string(REPLACE ".proto" "" stem ${proto})
    set(products ${out}/${stem}.pb.cc ${out}/${stem}.pb.h)
    set(flags --cpp_out=${out})
    file(STRINGS ${root}/${proto} services REGEX "^service ")
    if(services)
      list(APPEND products ${out}/${stem}.grpc.pb.cc ${out}/${stem}.grpc.pb.h)
      list(APPEND flags --grpc_out=${out} --plugin=protoc-gen-grpc=${GRPC_CPP_PLUGIN})
    endif()
    add_custom_command(OUTPUT ${products}
      COMMAND protobuf::protoc -I${root} ${flags} ${proto}
      DEPENDS ${root}/${proto} VERBATIM)
    list(APPEND sources ${products})
  endforeach()
  add_library(berth_${name} STATIC ${sources})
  target_compile_options(berth_${name} PRIVATE -Wno-error)
  target_include_directories(berth_${name} SYSTEM PUBLIC ${out} ${PROJECT_BINARY_DIR}/generated)
  target_link_libraries(berth_${name} PUBLIC berth::grpc ${ARG_DEPS})
  add_library(berth::${name} ALIAS berth_${name})
endfunction()
