"""Rewrites the syntax tree of an expression, since some of the library's values differ from Kubernetes'.

Place in the chain: between the parser and the evaluator. Kubernetes gives the two maps of a device a default value; the
library's maps have none, so `device.attributes[K]` becomes `K in device.attributes ? device.attributes[K] : {}`; the
optional forms become `optional.of` of the same. A name bound to such a map by `cel.bind` is treated as the map.
Quantities and versions are maps here, so equality becomes a function call.
Source: kubernetes/dynamic-resource-allocation cel/compile.go (mapper); google/cel-spec proto/cel/expr/syntax.proto.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from gpuvitals_sim.cel.functions import AMONG, SAME

_PACKAGE = "gpuvitals.cel"
_MAPS = ("attributes", "capacity")

_Field = descriptor_pb2.FieldDescriptorProto
_STRING, _INT64, _BOOL, _BYTES = _Field.TYPE_STRING, _Field.TYPE_INT64, _Field.TYPE_BOOL, _Field.TYPE_BYTES
_ONE, _MANY = _Field.LABEL_OPTIONAL, _Field.LABEL_REPEATED

# Only the fields that the rewrite walks; protobuf carries the others along untouched.
_Row = tuple[str, int, "_Field.Label.ValueType", "_Field.Type.ValueType | str"]
_MESSAGES: dict[str, tuple[_Row, ...]] = {
    "Envelope": (("type_url", 1, _ONE, _STRING), ("value", 2, _ONE, _BYTES)),
    "ParsedExpr": (("expr", 2, _ONE, "Expr"),),
    "Constant": (("string_value", 6, _ONE, _STRING),),
    "Ident": (("name", 1, _ONE, _STRING),),
    "Select": (("operand", 1, _ONE, "Expr"), ("field", 2, _ONE, _STRING), ("test_only", 3, _ONE, _BOOL)),
    "Call": (("target", 1, _ONE, "Expr"), ("function", 2, _ONE, _STRING), ("args", 3, _MANY, "Expr")),
    "List": (("elements", 1, _MANY, "Expr"),),
    "Entry": (("map_key", 3, _ONE, "Expr"), ("value", 4, _ONE, "Expr")),
    "Struct": (("entries", 2, _MANY, "Entry"),),
    "Comprehension": (
        ("accu_var", 3, _ONE, _STRING),
        *(
            (name, number, _ONE, "Expr")
            for name, number in (
                ("iter_range", 2), ("accu_init", 4), ("loop_condition", 5), ("loop_step", 6), ("result", 7),
            )
        ),
    ),
    "Expr": (
        ("id", 2, _ONE, _INT64), ("const_expr", 3, _ONE, "Constant"), ("ident_expr", 4, _ONE, "Ident"),
        ("select_expr", 5, _ONE, "Select"), ("call_expr", 6, _ONE, "Call"), ("list_expr", 7, _ONE, "List"),
        ("struct_expr", 8, _ONE, "Struct"), ("comprehension_expr", 9, _ONE, "Comprehension"),
    ),
}  # fmt: skip


def with_default_domains(parsed: bytes) -> bytes:
    """The serialized expression with an empty default for every index of a device's two maps."""
    envelope = _ENVELOPE()
    envelope.ParseFromString(parsed)
    tree = _PARSED()
    tree.ParseFromString(envelope.value)
    _Rewriter(_largest_id(tree.expr)).walk(tree.expr)
    envelope.value = tree.SerializeToString()
    rewritten: bytes = envelope.SerializeToString()
    return rewritten


class _Rewriter:
    def __init__(self, largest_id: int) -> None:
        self._id = largest_id
        self._names: list[str] = []

    def walk(self, node: Any) -> None:
        bound = node.comprehension_expr
        is_named = node.HasField("comprehension_expr") and self._is_map_of_device(bound.accu_init)
        if is_named:
            self._names.append(bound.accu_var)
        for child in _children(node):
            self.walk(child)
        if is_named:
            self._names.pop()
        if self._is_index(node, "_[_]"):
            self._default(node, map_=node.call_expr.args[0], key=node.call_expr.args[1])
        elif self._is_index(node, "_[?_]") or self._is_index(node, "_?._"):
            self._optional(node)
        elif node.call_expr.function == "_==_" and not _is_literal(node.call_expr.args[0]):
            self._equality(node, SAME)
        elif node.call_expr.function == "@in" and _is_constant_list(node.call_expr.args[1]):
            self._equality(node, AMONG)
        elif self._is_domain_select(node):
            key = _EXPR(id=self._next_id())
            key.const_expr.string_value = node.select_expr.field
            self._default(node, map_=node.select_expr.operand, key=key)

    def _optional(self, node: Any) -> None:
        """Rewrites an optional index of a domain, which always has a value."""
        inner = _EXPR()
        inner.CopyFrom(node)
        inner.call_expr.function = "_[_]"
        self._default(inner, map_=inner.call_expr.args[0], key=inner.call_expr.args[1])
        node.Clear()
        node.id = self._next_id()
        node.call_expr.target.id = self._next_id()
        node.call_expr.target.ident_expr.name = "optional"
        node.call_expr.function = "of"
        node.call_expr.args.append(inner)

    def _equality(self, node: Any, function: str) -> None:
        """Rewrites equality: `A == B` becomes `type(A) == type({}) ? function(A, B) : A == B`; `A in B` likewise."""
        left, right = node.call_expr.args
        kinds = _EXPR(id=self._next_id())
        kinds.call_expr.function = "_==_"
        empty = _EXPR(id=self._next_id())
        empty.struct_expr.SetInParent()
        kinds.call_expr.args.extend((self._call("type", left), self._call("type", empty)))
        plain = _EXPR()
        plain.CopyFrom(node)
        same = self._call(function, left, right)
        node.Clear()
        node.id = self._next_id()
        node.call_expr.function = "_?_:_"
        node.call_expr.args.extend((kinds, same, plain))

    def _call(self, function: str, *arguments: Any) -> Any:
        made = _EXPR(id=self._next_id())
        made.call_expr.function = function
        made.call_expr.args.extend(arguments)
        return made

    def _is_map_of_device(self, node: Any) -> bool:
        select = node.select_expr
        if node.HasField("ident_expr"):
            return node.ident_expr.name in self._names
        return (
            node.HasField("select_expr")
            and not select.test_only
            and select.field in _MAPS
            and select.operand.ident_expr.name == "device"
        )

    def _is_index(self, node: Any, function: str) -> bool:
        call = node.call_expr
        return (
            node.HasField("call_expr") and call.function == function and self._is_map_of_device(call.args[0])
        )

    def _is_domain_select(self, node: Any) -> bool:
        select = node.select_expr
        return (
            node.HasField("select_expr") and not select.test_only and self._is_map_of_device(select.operand)
        )

    def _default(self, node: Any, *, map_: Any, key: Any) -> None:
        presence = _EXPR(id=self._next_id())
        presence.call_expr.function = "@in"
        presence.call_expr.args.extend((key, map_))
        empty = _EXPR(id=self._next_id())
        empty.struct_expr.SetInParent()
        found = _EXPR()
        found.CopyFrom(node)
        node.Clear()
        node.id = self._next_id()
        node.call_expr.function = "_?_:_"
        node.call_expr.args.extend((presence, found, empty))

    def _next_id(self) -> int:
        self._id += 1
        return self._id


def _is_literal(node: Any) -> bool:
    return any(node.HasField(kind) for kind in ("const_expr", "list_expr", "struct_expr"))


def _is_constant_list(node: Any) -> bool:
    return node.HasField("list_expr") and all(
        element.HasField("const_expr") for element in node.list_expr.elements
    )


def _children(node: Any) -> list[Any]:
    found = []
    for _, value in node.ListFields():
        for part in value if isinstance(value, _REPEATED) else (value,):
            if isinstance(part, _EXPR):
                found.append(part)
            elif isinstance(part, Message):
                found.extend(_children(part))
    return found


def _largest_id(node: Any) -> int:
    return max([int(node.id), *(_largest_id(child) for child in _children(node))])


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="gpuvitals_cel_syntax.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, label, kind in fields:
            entry = message.field.add(name=field, number=number, label=label)
            if name == "Constant":
                # Of a oneof there: an empty string is a constant, and not the absence of one.
                message.oneof_decl.add(name="constant_kind")
                entry.oneof_index = 0
            if isinstance(kind, str):
                entry.type, entry.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                entry.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


_CLASSES = _classes()
_ENVELOPE, _PARSED, _EXPR = _CLASSES["Envelope"], _CLASSES["ParsedExpr"], _CLASSES["Expr"]
_REPEATED = type(_CLASSES["Call"]().args)
