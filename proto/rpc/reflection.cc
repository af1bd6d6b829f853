#include "proto/rpc/reflection.h"

#include <deque>
#include <set>

#include "absl/strings/str_cat.h"
#include "google/protobuf/descriptor.h"
#include "google/protobuf/descriptor.pb.h"

namespace berth::rpc {
namespace {

using google::protobuf::DescriptorPool;
using google::protobuf::FileDescriptor;
using grpc::reflection::v1alpha::FileDescriptorResponse;
using grpc::reflection::v1alpha::ServerReflection;
using grpc::reflection::v1alpha::ServerReflectionRequest;
using grpc::reflection::v1alpha::ServerReflectionResponse;

// A caller may ask so many questions ahead of its reading.
constexpr size_t kMaxUnread = 64;

void AddWithDependencies(const FileDescriptor& file, std::set<std::string>& added, FileDescriptorResponse& response) {
  if (!added.insert(file.name()).second) return;
  google::protobuf::FileDescriptorProto proto;
  file.CopyTo(&proto);
  response.add_file_descriptor_proto(proto.SerializeAsString());
  for (int i = 0; i < file.dependency_count(); ++i) AddWithDependencies(*file.dependency(i), added, response);
}

// One caller's answers, in order. Kept by the call's callbacks.
class Conversation {
 public:
  using Call = BidiCall<ServerReflectionRequest, ServerReflectionResponse>;

  explicit Conversation(std::shared_ptr<Call> call) : call_(std::move(call)) {}

  void Add(ServerReflectionResponse answer) {
    if (answers_.size() >= kMaxUnread) {
      return call_->Finish(absl::ResourceExhaustedError(absl::StrCat(kMaxUnread, " answers are unread")));
    }
    answers_.push_back(std::move(answer));
    Send();
  }
  void NoMore() {
    over_ = true;
    Send();
  }
  void Send() {
    if (call_->writing()) return;
    if (!answers_.empty()) {
      call_->Write(answers_.front());
      answers_.pop_front();
    } else if (over_) {
      call_->Finish(absl::OkStatus());
    }
  }

 private:
  const std::shared_ptr<Call> call_;
  std::deque<ServerReflectionResponse> answers_;
  bool over_ = false;
};

}  // namespace

void ReflectionService::AddTo(Server& server) {
  server.Register(service_);
  server.AddBidi(service_, &ServerReflection::AsyncService::RequestServerReflectionInfo,
                 [this](std::shared_ptr<Conversation::Call> call) {
                   auto conversation = std::make_shared<Conversation>(call);
                   call->OnRead([this, conversation](Request& request) { conversation->Add(Answer(request)); });
                   call->OnReadsDone([conversation] { conversation->NoMore(); });
                   call->OnWritten([conversation] { conversation->Send(); });
                 });
}

ReflectionService::Response ReflectionService::Answer(const Request& request) const {
  Response response;
  response.set_valid_host(request.host());
  *response.mutable_original_request() = request;
  const FileDescriptor* file = nullptr;
  std::string wanted;
  switch (request.message_request_case()) {
    case Request::kListServices:
      for (const std::string& name : services_) response.mutable_list_services_response()->add_service()->set_name(name);
      return response;
    case Request::kFileByFilename:
      wanted = request.file_by_filename();
      file = DescriptorPool::generated_pool()->FindFileByName(wanted);
      break;
    case Request::kFileContainingSymbol:
      wanted = request.file_containing_symbol();
      file = DescriptorPool::generated_pool()->FindFileContainingSymbol(wanted);
      break;
    default:
      wanted = "what was asked for";
  }
  if (file != nullptr) {
    std::set<std::string> added;
    AddWithDependencies(*file, added, *response.mutable_file_descriptor_response());
  } else {
    response.mutable_error_response()->set_error_code(static_cast<int>(absl::StatusCode::kNotFound));
    response.mutable_error_response()->set_error_message(absl::StrCat(wanted, " is not known"));
  }
  return response;
}

}  // namespace berth::rpc
