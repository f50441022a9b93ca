"""Kubernetes quantities, exactly: `80Gi`, `1.5`, `100m`, `1e3`.

Place in the chain: values of `device.capacity` and of the CEL function `quantity`.
Source: kubernetes/apimachinery pkg/api/resource/quantity.go.
"""

import re
from fractions import Fraction
from functools import lru_cache

_FORM = re.compile(r"([+-]?)(\d+(?:\.\d*)?|\.\d+)([EPTGMK]i|[numkMGTPE]|[eE][+-]?\d{1,3})?")
_BINARY = {f"{letter}i": Fraction(1024) ** power for power, letter in enumerate("KMGTPE", start=1)}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_NANO = 10**9


@lru_cache(maxsize=4096)
def parse_quantity(text: str) -> Fraction:
    """The exact amount, rounded away from zero to a multiple of 1e-9 as Kubernetes does. Raises ValueError."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        )
    sign, number, suffix = match[1], Fraction(match[2] if match[2] != "." else "0"), match[3] or ""
    amount = number * _factor(suffix)
    nanos = -((-amount.numerator * _NANO) // amount.denominator)
    return Fraction(-nanos if sign == "-" else nanos, _NANO)


def _factor(suffix: str) -> Fraction:
    if suffix in _BINARY:
        return _BINARY[suffix]
    power = _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])
    return Fraction(10) ** power
