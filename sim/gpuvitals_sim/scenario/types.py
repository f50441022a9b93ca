"""Field types of scenarios: names, durations, numbers, and the base of all models.

Place in the chain: used by `actions.py`, `expectations.py` and `model.py`.
"""

import re
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = _DURATION.fullmatch(value)
    if match is None:
        raise ValueError(f"{value!r} is not a duration such as 500ms, 2s or 1m")
    return round(float(match[1]) * _UNITS[match[2]], 6)


def _policy_seconds(value: object) -> object:
    seconds = _seconds(value)
    return int(seconds) if isinstance(seconds, float) and seconds.is_integer() else seconds


def _condition_status(value: object) -> object:
    return str(value) if isinstance(value, bool) else value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0, le=3600)]
PolicySeconds = Annotated[int, BeforeValidator(_policy_seconds)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,51}[a-z0-9])?$")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=r"^[^\x00-\x08\n\r]*$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Index = Annotated[int, Field(ge=0)]
Status = Annotated[Literal["True", "False", "Unknown"], BeforeValidator(_condition_status)]
Reading = Annotated[int | float | bool | str | tuple[str, ...] | None, Field(union_mode="smart")]


T = TypeVar("T")


def _not_empty(value: tuple[T, ...]) -> tuple[T, ...]:
    if not value:
        raise ValueError("at least one entry is needed")
    return value


NonEmpty = Annotated[tuple[T, ...], AfterValidator(_not_empty)]


class Model(BaseModel):
    """The base of all models: immutable, without unknown fields and silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def only_one(model: Model, names: tuple[str, ...]) -> None:
    """Raises ValueError unless exactly one of the named fields is set."""
    given = [name for name in names if getattr(model, name) is not None]
    if len(given) != 1:
        found = "none" if not given else "both " + " and ".join(given)
        raise ValueError(f"exactly one of {', '.join(names)} is needed, found {found}")


def one_of(*values: T | None) -> T:
    """The one value that is set; `only_one` has checked that there is exactly one."""
    return next(value for value in values if value is not None)
