"""Hostile variants of well-formed documents: the structure stays, and single values are replaced by values that break parsers."""

import json
from typing import Any

from hypothesis import strategies as st

DEEP = "@deep@"
"""Placeholder for deep nesting, which replaces it in the encoded text."""
LEVELS = 5000
"""Nesting beyond the recursion limit of every parser."""
OPENINGS = (b"[", b'{"a":', b"[{")
TWICE = "@twice@"
"""A key that becomes the same as the one before it."""

values: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [
            None,
            True,
            0,
            -1,
            2**31,
            2**53 + 1,
            2**64,
            10**400,
            -(10**400),
            0.5,
            1e308,
            float("inf"),
            float("-inf"),
            float("nan"),
            "",
            "\x00",
            "\ud800",
            "\u202e\U0001f525",
            "x" * 20_000,
            DEEP,
            [],
            {},
            [[]],
            {"": {"": None}},
        ]
    ),
    st.sampled_from(
        [
            "9999-12-31T23:59:59-08:00",
            "9999-12-31T23:59:59.999999-23:59",
            "0001-01-01T00:00:00+08:00",
            "0001-01-01T00:00:00+23:59",
            "1969-12-31T23:59:59Z",
            "2026-02-30T00:00:00Z",
            "2026-11-30T00:00:00",
            "2026-11-30T24:00:00Z",
            "2026-11-30T23:59:60Z",
            "2026-11-30",
            "10000-01-01T00:00:00Z",
        ]
    ),
    st.text(max_size=40),
    st.integers(),
    st.floats(),
)


def _paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [here, *(path for key, child in children for path in _paths(child, (*here, key)))]


def _changed(value: Any, path: tuple[Any, ...], new: Any, how: str) -> Any:
    if not path:
        return new
    head, *rest = path
    copied = dict(value) if isinstance(value, dict) else list(value)
    if rest or how == "replace":
        copied[head] = _changed(copied[head], tuple(rest), new, how)
    elif how == "remove":
        del copied[head]
    elif isinstance(copied, dict):
        copied[TWICE + str(head) if how == "twice" else how] = new
    else:
        copied.insert(head, new)
    return copied


def encoded(value: Any, levels: int = LEVELS) -> bytes:
    """The value as JSON, with as many levels of lists in place of DEEP."""
    text = json.dumps(value)
    text = text.replace(json.dumps(DEEP), "[" * levels + "]" * levels)
    return text.replace(TWICE, "").encode("utf-8", "surrogatepass")


@st.composite
def hostile_objects(draw: st.DrawFn, whole: Any) -> Any:
    """`whole` with up to three values replaced, removed, added, or given twice."""
    found = whole
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(_paths(found)))
        how = draw(st.sampled_from(["replace", "replace", "remove", "twice", "unknown"]))
        found = _changed(found, path, draw(values), how)
    return found


@st.composite
def hostile_bytes(draw: st.DrawFn, whole: Any, levels: int = LEVELS) -> bytes:
    """JSON of a hostile object, sometimes with changed bytes, cut off or in another encoding; or random bytes."""
    kind = draw(st.sampled_from(["json"] * 6 + ["cut", "bytes", "binary", "utf-16", "deep"]))
    if kind == "binary":
        return draw(st.binary(max_size=200))
    if kind == "deep":
        return draw(st.sampled_from(OPENINGS)) * levels
    text = encoded(draw(hostile_objects(whole)), levels)
    if kind == "cut":
        return text[: draw(st.integers(0, len(text)))]
    if kind == "bytes":
        at = draw(st.integers(0, len(text)))
        return text[:at] + draw(st.binary(min_size=1, max_size=4)) + text[at + 1 :]
    if kind == "utf-16":
        return text.decode("utf-8", "replace").encode("utf-16")
    return text


@st.composite
def hostile_lines(draw: st.DrawFn, whole: tuple[str, ...]) -> str:
    """One of the lines with a piece of it replaced, doubled or cut."""
    line = draw(st.sampled_from(whole))
    start = draw(st.integers(0, len(line)))
    end = draw(st.integers(start, min(len(line), start + 12)))
    piece = draw(
        st.one_of(
            st.sampled_from(
                ["", "9" * 5000, "-1", "1e999", "nan", "+Inf", "\x00", "\ud800", "\u0663", "\\", '"']
            ),
            st.sampled_from(["0x" + "f" * 400, "(", "[[", ";;", "\r\n", " " * 300, line]),
            st.text(max_size=10),
        )
    )
    return line[:start] + piece + line[end:]
