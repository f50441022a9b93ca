"""The wire versions of each service have the messages of the newest one, with which all versions are served."""

from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor

from gpuvitals.kubeletplugin.dra_service import DRA_VERSIONS
from gpuvitals.kubeletplugin.health_service import HEALTH_VERSIONS
from gpuvitals.proto import dra_health_v1_pb2, dra_health_v1alpha1_pb2, dra_v1_pb2, dra_v1beta1_pb2


def fields(file: FileDescriptor) -> set[tuple[object, ...]]:
    """Every field of a file's messages as it appears on the wire."""
    found: set[tuple[object, ...]] = set()
    waiting: list[Descriptor] = list(file.message_types_by_name.values())
    while waiting:
        message = waiting.pop()
        waiting += message.nested_types
        found |= {(path(message, file), *on_wire(field, file)) for field in message.fields}
    return found


def path(message: Descriptor, file: FileDescriptor) -> str:
    return message.full_name.removeprefix(f"{file.package}.")


def on_wire(field: FieldDescriptor, file: FileDescriptor) -> tuple[object, ...]:
    inner = field.message_type
    values = field.enum_type
    return (
        field.name,
        field.number,
        field.type,
        field.is_repeated,
        None if inner is None else path(inner, file),
        None if values is None else tuple((each.name, each.number) for each in values.values),
    )


def test_v1beta1_has_the_messages_of_v1_without_share_ids() -> None:
    newest, older = fields(dra_v1_pb2.DESCRIPTOR), fields(dra_v1beta1_pb2.DESCRIPTOR)
    assert older <= newest
    assert {(field[0], field[1]) for field in newest - older} == {("Device", "share_id")}


def test_v1alpha1_has_the_messages_of_v1() -> None:
    assert fields(dra_health_v1_pb2.DESCRIPTOR) == fields(dra_health_v1alpha1_pb2.DESCRIPTOR)


def test_the_service_names_are_those_of_the_protocol_files() -> None:
    files = (dra_v1_pb2, dra_v1beta1_pb2, dra_health_v1_pb2, dra_health_v1alpha1_pb2)
    expected = [service.full_name for file in files for service in file.DESCRIPTOR.services_by_name.values()]
    assert [version.service for version in (*DRA_VERSIONS, *HEALTH_VERSIONS)] == expected
