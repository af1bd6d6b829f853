#include "clients/cli/message_json.h"

#include <string>

#include "google/protobuf/util/json_util.h"

namespace berth::cli {

absl::Status WriteJson(const google::protobuf::Message& message, std::ostream& out) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = options.always_print_primitive_fields = options.preserve_proto_field_names = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  if (!status.ok()) return absl::InternalError(status.ToString());
  out << json;
  return absl::OkStatus();
}

}  // namespace berth::cli
