"""Our protos against upstream's own descriptors: every message, field, number, type, service and method."""

import json
import subprocess
from types import ModuleType
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from cluster.build import locate
from gpuvitals.proto import (
    dra_health_v1_pb2,
    dra_health_v1alpha1_pb2,
    dra_v1_pb2,
    dra_v1beta1_pb2,
    pluginregistration_v1_pb2,
)

pytestmark = pytest.mark.needs_go

OURS: dict[str, ModuleType] = {
    "dra/v1": dra_v1_pb2,
    "dra/v1beta1": dra_v1beta1_pb2,
    "dra-health/v1": dra_health_v1_pb2,
    "dra-health/v1alpha1": dra_health_v1alpha1_pb2,
    "pluginregistration/v1": pluginregistration_v1_pb2,
}


@pytest.fixture(scope="module")
def upstream() -> dict[str, Any]:
    answer = subprocess.run(
        [str(locate("kubernetes-1.37", "descriptors"))], capture_output=True, check=True, timeout=30
    )
    printed: dict[str, Any] = json.loads(answer.stdout)
    return printed


@pytest.mark.parametrize("path", OURS)
def test_the_wire_is_upstreams(upstream: dict[str, Any], path: str) -> None:
    theirs = json_format.ParseDict(upstream[path], FileDescriptorProto(), ignore_unknown_fields=True)
    ours = FileDescriptorProto()
    OURS[path].DESCRIPTOR.CopyToProto(ours)

    assert ours.package == theirs.package
    assert messages(ours) == messages(theirs)
    assert enums(ours) == enums(theirs)
    assert services(ours) == services(theirs)


def messages(file: FileDescriptorProto) -> dict[str, list[tuple[object, ...]]]:
    """Message name to its fields; map entries are messages of their own, nested in theirs."""
    found = {}
    for message in file.message_type:
        for part in [message, *message.nested_type]:
            name = message.name if part is message else f"{message.name}.{part.name}"
            found[name] = sorted(
                (field.number, field.name, field.type, field.label, field.type_name, field.proto3_optional)
                for field in part.field
            )
    return found


def enums(file: FileDescriptorProto) -> dict[str, list[tuple[int, str]]]:
    return {enum.name: sorted((value.number, value.name) for value in enum.value) for enum in file.enum_type}


def services(file: FileDescriptorProto) -> dict[str, list[tuple[object, ...]]]:
    return {
        service.name: sorted(
            (
                method.name,
                method.input_type,
                method.output_type,
                method.client_streaming,
                method.server_streaming,
            )
            for method in service.method
        )
        for service in file.service
    }
