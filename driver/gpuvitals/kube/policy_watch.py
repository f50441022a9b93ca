"""Reads the cluster's GPUHealthPolicy objects, all of them: which one governs a GPU is decided on its node.

A stored object that this agent can't use is told with the field at fault, and is never taken for one that is gone.
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
from gpuvitals.kube.reflector import ObjectKey, Reflector, ReflectorHooks, Selection
from gpuvitals.kube.retry import WATCH_LATER
from gpuvitals.kube.transport import Transport
from gpuvitals.observability.metrics import NodeMetrics


class PolicyError(Exception):
    """A stored policy can't be used. The message names the field."""


class PolicyListener(Protocol):
    """Hears of policies, on the watch's thread; must not block."""

    def known(self, name: str, rule: PolicyRule | None) -> None:
        """The policy as it is stored now; None where it is gone."""
        ...

    def refused(self, name: str, why: str) -> None:
        """The policy can't be used."""
        ...

    def listed(self) -> None:
        """Every policy was told, or there are none that this agent may read."""
        ...


class PolicyWatch:
    """Keeps `listener` told, for as long as it runs. One thread."""

    def __init__(
        self, group: str, transport: Transport, metrics: NodeMetrics, listener: PolicyListener
    ) -> None:
        self._listener = listener
        self._has_told = False
        self._reflector = Reflector(
            Selection(path=f"/apis/{group}/{VERSION}/{PLURAL}", policy=WATCH_LATER),
            transport,
            self._changed,
            metrics,
            ReflectorHooks(urgent=lambda: not self._has_told, listed=self._listed),
        )

    def start(self) -> None:
        """Starts to list and watch."""
        self._reflector.start()

    def stop(self, deadline_seconds: float) -> None:
        """Stops, waiting for a call at hand up to the deadline."""
        self._reflector.stop(deadline_seconds)

    def _changed(self, key: ObjectKey, raw: bytes | None) -> None:
        name = key[1]
        if raw is None:
            self._listener.known(name, None)
            return
        try:
            rule = policy_rule(raw)
        except PolicyError as error:
            self._listener.refused(name, str(error))
            self._reflector.skip(f"policy {name}: {error}")
            return
        self._listener.known(name, rule)

    def _listed(self, error: ApiError | None) -> None:
        """Where the API server has no such kind, or does not let us read it, waiting would hold up the node."""
        if error is None or isinstance(error, Permanent):
            self._has_told = True
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
        # Together with the agent's own values it is checked where those are known.
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
    """The values under the agent's names. Raises PolicyError for a name that no object has."""
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
