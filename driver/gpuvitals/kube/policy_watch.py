"""Watches all GPUHealthPolicy objects of the cluster; each node selects the policy of each GPU itself.

A stored object that this agent cannot use is reported with the field at fault, and never counts as deleted.
"""

from typing import Protocol

import msgspec

from gpuvitals.decode_error import decoded, misfit
from gpuvitals.health.policy import check_values
from gpuvitals.health.policy_pairs import as_object_fields, camel
from gpuvitals.health.policy_values import VALUES
from gpuvitals.inventory.policy_match import Mode, PolicyRule
from gpuvitals.kube.errors import ApiError, Permanent
from gpuvitals.kube.policy_crd import PLURAL, VERSION
from gpuvitals.kube.reflector import Reflector
from gpuvitals.kube.reflector_ports import ObjectKey, ReflectorHooks, Selection
from gpuvitals.kube.retry import WATCH_LATER
from gpuvitals.kube.transport import Transport
from gpuvitals.observability.metrics import NodeMetrics


class PolicyError(Exception):
    """A stored policy that cannot be used. The message names the field."""


class PolicyListener(Protocol):
    """Receives the policies, on the watch's thread. Methods must not block."""

    def known(self, name: str, rule: PolicyRule | None) -> None:
        """A policy is stored as `rule`, or was deleted (None)."""
        ...

    def refused(self, name: str, why: str) -> None:
        """A stored policy cannot be used, for the reason `why`."""
        ...

    def listed(self) -> None:
        """Every policy was reported, or this agent may read none."""
        ...


class PolicyWatch:
    """Reports policies to `listener` until it is stopped. One thread."""

    def __init__(
        self, group: str, transport: Transport, metrics: NodeMetrics, listener: PolicyListener
    ) -> None:
        selection = Selection(path=f"/apis/{group}/{VERSION}/{PLURAL}", policy=WATCH_LATER)
        self._reflector = Reflector(selection, transport, metrics, _PolicyHooks(listener))

    def start(self) -> None:
        """Starts to list and watch."""
        self._reflector.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops; waits for a call in progress up to the deadline."""
        self._reflector.stop(deadline_seconds)


class _PolicyHooks(ReflectorHooks):
    def __init__(self, listener: PolicyListener) -> None:
        self._listener = listener
        self._has_listed = False

    def changed(self, key: ObjectKey, raw: bytes | None) -> None:
        name = key[1]
        if raw is None:
            self._listener.known(name, None)
            return
        try:
            rule = policy_rule(raw)
        except PolicyError as error:
            self._listener.refused(name, str(error))
            raise msgspec.DecodeError(f"policy {name}: {error}") from error
        self._listener.known(name, rule)

    def is_urgent(self) -> bool:
        return not self._has_listed

    def listed(self, error: ApiError | None) -> None:
        # A permanent error (the kind is not served, or the right is missing) must not hold up the node.
        if error is None or isinstance(error, Permanent):
            self._has_listed = True
            self._listener.listed()


def policy_rule(raw: bytes) -> PolicyRule:
    """The rule of a stored GPUHealthPolicy. Raises PolicyError."""
    try:
        stored = decoded(_POLICY, raw)
    except msgspec.DecodeError as error:
        raise PolicyError(misfit(error, "the object")) from error
    spec = stored.spec
    health = _values(spec.health)
    try:
        # The policy resolver checks these values together with the agent's own.
        check_values(health)
    except ValueError as error:
        raise PolicyError(f"spec.health: {as_object_fields(str(error), _SNAKE)}") from error
    return PolicyRule(
        name=stored.metadata.name,
        priority=spec.priority,
        node_labels=tuple(sorted(spec.match.node_labels.items())),
        device_attributes=tuple(sorted(spec.match.device_attributes.items())),
        mode=spec.mode,
        paused=spec.pause,
        health=tuple(sorted(health.items())),
    )


def _values(given: dict[str, int]) -> dict[str, int]:
    """The values under the agent's names. Raises PolicyError for an unknown name."""
    unknown = next((name for name in given if name not in _CAMEL), None)
    if unknown is not None:
        meant = (
            f"it is written {camel(unknown)}"
            if unknown in _SNAKE
            else f"the known ones are {', '.join(_CAMEL)}"
        )
        raise PolicyError(f"spec.health: {unknown!r}: unknown; {meant}")
    return {_CAMEL[name]: value for name, value in given.items()}


_SNAKE = {value.name: value for value in VALUES}
_CAMEL = {camel(name): name for name in sorted(_SNAKE)}


class _Match(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    node_labels: dict[str, str] = {}
    device_attributes: dict[str, str] = {}


class _Spec(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    match: _Match = msgspec.field(default_factory=_Match)
    priority: int = 0
    mode: Mode = Mode.ISOLATE
    pause: bool = False
    health: dict[str, int] = {}


class _Meta(msgspec.Struct):
    name: str


class _Policy(msgspec.Struct):
    metadata: _Meta
    spec: _Spec


_POLICY = msgspec.json.Decoder(_Policy)
