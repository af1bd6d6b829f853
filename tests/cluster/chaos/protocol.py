"""Berth's messages and rpcs, made from proto/ when the program starts: no generated file to keep."""
import glob
import os
import subprocess
import tempfile

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))


def _pool():
    files = descriptor_pb2.FileDescriptorSet()
    with tempfile.NamedTemporaryFile() as out:
        protos = glob.glob(os.path.join(ROOT, "proto/berth/v1/*.proto")) + [os.path.join(ROOT, "proto/google/rpc/error_details.proto")]
        command = ["protoc", "-I", os.path.join(ROOT, "proto"), "--include_imports", "--descriptor_set_out=" + out.name, *protos]
        subprocess.run(command, check=True)
        files.ParseFromString(out.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool


_POOL = _pool()


def message(name):
    """The class of a message: message("berth.v1.GenerationSpec")."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(name))


GenerationSpec = message("berth.v1.GenerationSpec")
StreamGenerateRequest = message("berth.v1.StreamGenerateRequest")
StreamGenerateResponse = message("berth.v1.StreamGenerateResponse")
GenerateRequest = message("berth.v1.GenerateRequest")
GenerateResponse = message("berth.v1.GenerateResponse")
_Status = message("google.rpc.Status")
_ErrorInfo = message("google.rpc.ErrorInfo")

AFFINITIES = {1: "hit", 2: "new", 3: "spill", 4: "rebind"}
INTERACTIVE = 2


def stream_generate(channel):
    return channel.unary_stream(
        "/berth.v1.InferenceService/StreamGenerate", StreamGenerateRequest.SerializeToString, StreamGenerateResponse.FromString
    )


def generate(channel):
    return channel.unary_unary("/berth.v1.InferenceService/Generate", GenerateRequest.SerializeToString, GenerateResponse.FromString)


def error_details(error):
    """(ErrorInfo reason or "", whether RetryInfo is there) of an AioRpcError."""
    reason, retry = "", False
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        for detail in _Status.FromString(value).details:
            retry = retry or detail.type_url.endswith("google.rpc.RetryInfo")
            if detail.type_url.endswith("google.rpc.ErrorInfo"):
                reason = _ErrorInfo.FromString(detail.value).reason
    return reason, retry
