"""A caller who has no stubs, as grpcurl: what it calls it learns from the gateway."""
import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def test_reflection_is_enough_to_call(sim):
    with grpc.insecure_channel(f"127.0.0.1:{sim.gateway.ready['grpc_port']}") as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        names = [name for name in database.get_services() if name.startswith("berth.v1.")]
        assert sorted(names) == [f"berth.v1.{name}Service" for name in ("Inference", "Model", "Session")]
        pool = DescriptorPool(database)
        for name in names:
            for method in pool.FindServiceByName(name).methods:
                assert GetMessageClass(method.input_type) and GetMessageClass(method.output_type)
        method = pool.FindServiceByName("berth.v1.InferenceService").methods_by_name["Generate"]
        request = GetMessageClass(method.input_type)()
        request.generation.prompt.text = "x"
        request.generation.stop.max_tokens = 3
        call = channel.unary_unary(
            "/berth.v1.InferenceService/Generate",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        assert call(request).choices[0].text
