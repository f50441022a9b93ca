"""Quantities and times in the canonical form of the server.

Place in the chain: decoding a body normalizes every such field here.
Source: kubernetes/apimachinery pkg/api/resource/quantity.go, pkg/apis/meta/v1/{time,micro_time}.go.
"""

import re
from datetime import UTC
from fractions import Fraction
from functools import lru_cache

from gpuvitals_sim.apiserver.json_types import parse_time, timestamp

_QUANTITY = re.compile(r"(?P<sign>[+-]?)(?P<number>[0-9]*\.?[0-9]*)(?P<suffix>.*)")
_QUANTITY_TEXT = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_SUFFIX_TEXT = "unable to parse quantity's suffix"
_SUFFIX_LETTERS = re.compile(r"[eEinumkKMGTP]*[-+]?[0-9]*")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DECIMAL_SUFFIXES = {power: suffix for suffix, power in _DECIMAL.items()}
_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_EXPONENT = re.compile(r"[eE]([+-]?[0-9]+)")
_NANO = 10**9
_LARGEST = 2**63 - 1

_TIME = "2006-01-02T15:04:05Z07:00"
_MICRO_TIME = "2006-01-02T15:04:05.000000Z07:00"
_DIGITS = {"2006": 4, "01": 2, "02": 2, "15": 2, "04": 2, "05": 2}
_ZONE = re.compile(r"Z|[+-]\d\d:\d\d")


class MalformedError(ValueError):
    """The text is no quantity or no time; the message is the real server's."""


@lru_cache(maxsize=4096)
def canonical_quantity(text: str) -> str:
    """`1.5Gi` as `1536Mi`: the same amount without fractions, with the largest suffix. Raises MalformedError."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or not match["number"] or not _SUFFIX_LETTERS.fullmatch(match["suffix"]):
        raise MalformedError(_QUANTITY_TEXT)
    suffix = match["suffix"]
    amount = Fraction(f"0{match['number']}") * _factor(suffix)
    nanos = -(-amount.numerator * _NANO // amount.denominator)
    sign = "-" if match["sign"] == "-" and nanos else ""
    if suffix in _BINARY[1:]:
        nanos = min(nanos, _LARGEST * _NANO)
    if suffix in _BINARY[1:] and nanos >= 1024 * _NANO and nanos % _NANO == 0:
        return sign + _binary(nanos // _NANO)
    return sign + _decimal(nanos, exponent=bool(_EXPONENT.fullmatch(suffix)))


@lru_cache(maxsize=1024)
def canonical_time(text: str) -> str:
    """A time in UTC and whole seconds. Raises MalformedError."""
    _check_time(text, _TIME)
    return timestamp(parse_time(text))


@lru_cache(maxsize=1024)
def canonical_micro_time(text: str) -> str:
    """A time in UTC with six digits behind the second. Raises MalformedError."""
    _check_time(text, _MICRO_TIME)
    return parse_time(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _factor(suffix: str) -> Fraction:
    if suffix in _BINARY:
        return Fraction(1024) ** _BINARY.index(suffix)
    if suffix in _DECIMAL:
        return Fraction(10) ** _DECIMAL[suffix]
    if found := _EXPONENT.fullmatch(suffix):
        return Fraction(10) ** int(found[1])
    raise MalformedError(_SUFFIX_TEXT)


def _binary(amount: int) -> str:
    power = 0
    while amount % 1024 == 0 and power < len(_BINARY) - 1:
        amount, power = amount // 1024, power + 1
    return f"{amount}{_BINARY[power]}"


def _decimal(nanos: int, *, exponent: bool) -> str:
    power = -9
    while nanos and nanos % 1000 == 0 and (exponent or power < 18):
        nanos, power = nanos // 1000, power + 3
    if not nanos:
        return "0"
    if exponent:
        return f"{nanos}e{power}" if power else str(nanos)
    return f"{nanos}{_DECIMAL_SUFFIXES[power]}"


def _check_time(text: str, layout: str) -> None:
    """Raises MalformedError naming the first part of the layout that a malformed time lacks."""
    rest = text
    for part in re.findall(r"2006|01|02|15|04|05|\.000000|Z07:00|.", layout):
        found = _leading(rest, part)
        if found is None:
            raise MalformedError(f'parsing time "{text}" as "{layout}": cannot parse "{rest}" as "{part}"')
        rest = rest[len(found) :]
        if part == "05" and layout == _TIME and (fraction := re.match(r"\.\d+", rest)):
            rest = rest[fraction.end() :]
    if rest:
        raise MalformedError(f'parsing time "{text}": extra text: "{rest}"')


def _leading(rest: str, part: str) -> str | None:
    if part in _DIGITS:
        found = re.match(rf"\d{{{_DIGITS[part]}}}", rest)
    elif part == ".000000":
        found = re.match(r"\.\d{6}", rest)
    elif part == "Z07:00":
        found = _ZONE.match(rest)
    else:
        found = re.match(re.escape(part), rest)
    return found[0] if found else None
