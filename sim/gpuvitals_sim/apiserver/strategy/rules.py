"""`Rules`: the interface between the verbs and the rules of one kind.

Place in the chain: `table.py` has one per kind, the verbs call them in this order:
default -> prepare -> validate. Each part has a neutral value, so a plain kind needs none.
"""

from collections.abc import Callable
from dataclasses import dataclass

from gpuvitals_sim.apiserver.errors import FieldError
from gpuvitals_sim.apiserver.json_types import Obj
from gpuvitals_sim.apiserver.strategy.names import subdomain_complaints


def nothing(_: Obj) -> None:
    """No defaults, no preparation."""


def no_preparation(_new: Obj, _old: Obj, _subresource: str) -> None:
    """No preparation on update."""


def no_errors(_: Obj) -> list[FieldError]:
    """No errors on create."""
    return []


def no_update_errors(_new: Obj, _old: Obj, _subresource: str) -> list[FieldError]:
    """No errors on update."""
    return []


def not_graceful(_: Obj, _seconds: int | None) -> int | None:
    """No grace period."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Rules of one kind. `default` and the `prepare_*` change the new object in place; the others change nothing.
    `validate_update` gets (new, old, subresource) and returns all errors of the new object.

    `grace_seconds(object, requested)` is the grace period of a deletion; None means that it is not graceful.
    `keeps_status_on_create`: a create may set status (nodes). `name_complaints` checks `metadata.name`.
    """

    default: Callable[[Obj], None] = nothing
    prepare_create: Callable[[Obj], None] = nothing
    prepare_update: Callable[[Obj, Obj, str], None] = no_preparation
    validate_create: Callable[[Obj], list[FieldError]] = no_errors
    validate_update: Callable[[Obj, Obj, str], list[FieldError]] = no_update_errors
    grace_seconds: Callable[[Obj, int | None], int | None] = not_graceful
    name_complaints: Callable[[str], list[str]] = subdomain_complaints
    keeps_status_on_create: bool = False
