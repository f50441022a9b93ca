"""The form that the rules of one kind have.

Place in the chain: `table.py` fills one in per kind, the verbs call them in this order:
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
    """Nothing to prepare on update."""


def no_errors(_: Obj) -> list[FieldError]:
    """Every object is valid."""
    return []


def no_update_errors(_new: Obj, _old: Obj, _subresource: str) -> list[FieldError]:
    """Every change is valid."""
    return []


def not_graceful(_: Obj, _seconds: int | None) -> int | None:
    """Deletion takes effect at once."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Rules of one kind. `default` and the `prepare_*` change the new object in place; the rest only look.
    `validate_update` sees (new, old, subresource) and says all that is wrong with the new object.

    `grace_seconds(object, requested)` is how long deletion takes; None means that it is not graceful.
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
