"""The two environments of the CEL library: one checks an expression, one evaluates it.

Place in the chain: under `selector.py`. For the check `device` is a message, so that a typo is an error at create; for
the evaluation it is a plain map. Beyond the standard: optionals, cel.bind, strings, quantities, versions.
Source: kubernetes/dynamic-resource-allocation cel/compile.go (fields of kubernetes.DRADevice).
"""

from functools import cache
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext.ext_bindings import ExtBindings
from cel_expr_python.ext.ext_optional import ExtOptional
from cel_expr_python.ext.ext_strings import ExtStrings
from google.protobuf import descriptor_pb2, descriptor_pool, struct_pb2

from gpuvitals_sim.cel.functions import declarations

DEVICE_TYPE = "kubernetes.DRADevice"
_Field = descriptor_pb2.FieldDescriptorProto
_STRING, _BOOL, _MESSAGE = _Field.TYPE_STRING, _Field.TYPE_BOOL, _Field.TYPE_MESSAGE
_ONE, _MANY = _Field.LABEL_OPTIONAL, _Field.LABEL_REPEATED


@cache
def checker() -> cel.Env:
    """The environment with the fields of `device` and the types of every function."""
    return _environment(cel.Type(DEVICE_TYPE), checked=True, pool=_pool())


@cache
def evaluator() -> cel.Env:
    """The environment that evaluates parsed expressions over plain maps."""
    return _environment(cel.Type.DYN, checked=False, pool=None)


def _environment(device: cel.Type, *, checked: bool, pool: Any) -> cel.Env:
    return cel.NewEnv(
        pool,
        variables={"device": device},
        extensions=[ExtOptional(), ExtStrings(), ExtBindings()],
        functions=declarations(checked=checked),
    )


def _pool() -> descriptor_pool.DescriptorPool:
    """A pool with the descriptor of `device`; each domain is a map of values with dynamic types."""
    package, _, name = DEVICE_TYPE.partition(".")
    file = descriptor_pb2.FileDescriptorProto(
        name="gpuvitals_cel_device.proto",
        package=package,
        syntax="proto3",
        dependency=["google/protobuf/struct.proto"],
    )
    message = file.message_type.add(name=name)
    message.field.add(name="driver", number=1, type=_STRING, label=_ONE)
    message.field.add(name="allowMultipleAllocations", number=2, type=_BOOL, label=_ONE)
    for number, field in ((3, "attributes"), (4, "capacity")):
        entry = message.nested_type.add(name=f"{field.capitalize()}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=_STRING, label=_ONE)
        entry.field.add(
            name="value", number=2, type=_MESSAGE, label=_ONE, type_name=".google.protobuf.Struct"
        )
        message.field.add(
            name=field, number=number, type=_MESSAGE, label=_MANY, type_name=f".{DEVICE_TYPE}.{entry.name}"
        )
    structs = descriptor_pb2.FileDescriptorProto()
    struct_pb2.DESCRIPTOR.CopyToProto(structs)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(structs)
    pool.Add(file)
    return pool
