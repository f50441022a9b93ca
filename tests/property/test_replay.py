"""Properties of the replay: any input is read or rejected, the log format is irrelevant, verdicts equal the fold's."""

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuvitals.model.health import HealthState
from gpuvitals.replay.comparison import differences
from gpuvitals.replay.reader import LogError
from gpuvitals.replay.timeline import EntryKind
from support.log_writers import PEOPLES
from support.long_runs import share
from support.saved_logs import STAMPED, LogLine, dmesg, journal_json, kmsg, replayed, syslog_iso, xid
from support.signals import fold, judge
from support.signals import xid as xid_report

Form = Callable[[Iterable[LogLine]], bytes]
BUS = "0000:3b:00"
_CODES = st.sampled_from([13, 31, 43, 45, 48, 63, 64, 79, 92, 94, 95, 109, 119, 999])
_OTHERS = st.sampled_from(
    [
        "usb 1-1: new device",
        "Linux version 6.8.0",
        "NVRM: loading NVIDIA UNIX Open Kernel Module for x86_64  595.45.04",
        f"NVRM: GPU at PCI:{BUS}: GPU-5d3c0a11-8e42-4b7f-9c15-0f6a2be71d01",
        f"NVRM: GPU {BUS}.0: GPU has fallen off the bus.",
        xid(154, "GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)"),
        xid(154, "GPU recovery action changed from 0x1 (GPU Reset Required) to 0x0 (None)"),
        "nvidia-nvswitch3: SXid (PCI:0000:05:00.0): 20034, Fatal, Link 28 x",
        "NVRM: Xid (PCI:zz): 79, x",
        f"NVRM: Xid (PCI:{BUS} GPU-I:05): 94, x",
    ]
)
_TEXTS = st.one_of(_CODES.map(xid), _CODES.map(lambda code: xid(code, "pid=7, name=a, x")), _OTHERS)
_STEPS = st.sampled_from([0, 1, 60, 200, 700, 4000, 90_000])
_LOGS = st.lists(st.tuples(_STEPS, _TEXTS), min_size=1, max_size=25)


def timed(steps: list[tuple[int, str]]) -> list[LogLine]:
    """The texts with their times. Without boots, since uptimes start again at each boot."""
    at, said = 100.0, []
    for step, text in steps:
        at += step
        said.append((at, text))
    return said


def told(form: Form, said: list[LogLine]) -> list[tuple[str, str, str]]:
    return [(each.kind.value, each.gpu, each.text) for each in replayed(form(said)).timeline]


def form_does_not_matter(steps: list[tuple[int, str]], *forms: Form) -> None:
    said = timed(steps)
    expected = told(syslog_iso, said)

    for form in forms:
        assert told(form, said) == expected, form.__name__


def judges_as_the_fold(steps: list[tuple[int, int]]) -> None:
    """For a log of XIDs only, the replay and the fold of the same reports agree on state and reason."""
    said = timed([(step, xid(code)) for step, code in steps])
    end = replayed(dmesg(said)).ends[f"{BUS}.0"]
    first = said[0][0]
    reports = [xid_report(code, 2000 + at - first) for (_, code), (at, _) in zip(steps, said, strict=True)]
    state = fold(*reports)
    judged = judge(state, reports[-1].seen.at)

    if judged.state is HealthState.UNHEALTHY:
        assert (end.verdict.state, end.verdict.reason) == (judged.state, judged.reason)
    else:
        assert {fault.rule.reason for fault in state.faults} >= {end.verdict.reason} - {"None"}
        assert not end.is_isolated


def any_bytes_are_a_log_or_bad_input(content: bytes) -> None:
    refused = ""
    try:
        replayed(content)
    except LogError as error:
        refused = str(error)

    assert refused == "" or refused.startswith("log-1:")
    assert "\n" not in refused


@given(_LOGS, st.lists(st.sampled_from([*STAMPED, *PEOPLES]), min_size=1, max_size=8))
def test_the_form_of_a_log_does_not_matter(steps: list[tuple[int, str]], forms: list[Form]) -> None:
    """Finding L3."""
    form_does_not_matter(steps, *forms)


_WORDS = st.sampled_from(
    ["Nov 24 10:00:00", "2026-11-24T10:00:00Z", "[   12.5]", "node-7", "kernel:", "app[7]:", "<4>", "<12>", "kern.log:", "12:",
     "stdout F", "[pod/a/b]", "cpu1:2)", "kern  :warn  :", "user:", '{"msg":"', "1", "-", ">", "\t", " ", "x", "|"]
)  # fmt: skip


@given(
    st.lists(st.one_of(_WORDS, st.text(max_size=6)), max_size=6), st.sampled_from(["", " "]), st.booleans()
)
def test_no_line_of_the_driver_vanishes_whatever_stands_before_it(
    words: list[str], gap: str, after: bool
) -> None:
    """Finding L3."""
    line = gap.join(words).replace("\n", "").replace("\r", "") + gap + xid(79)
    content = (dmesg([(1.0, "usb 1-1: x")]) if after else b"") + line.encode(errors="replace") + b"\n"
    try:
        found = replayed(content)
    except LogError:
        return
    counts = found.counts

    assert len(found.ends) + counts.spoofed + counts.malformed + counts.unread + counts.mentions >= 1


@given(st.lists(st.tuples(_STEPS, _CODES), min_size=1, max_size=30))
def test_a_replay_judges_as_the_fold_does(steps: list[tuple[int, int]]) -> None:
    judges_as_the_fold(steps)


@given(_LOGS)
def test_isolations_and_returns_alternate_and_every_isolation_has_an_outcome(
    steps: list[tuple[int, str]],
) -> None:
    found = replayed(kmsg(timed(steps)))
    tally = found.tally

    assert tally.confirmed + tally.contradicted + tally.undecided == tally.isolations
    for gpu in found.ends:
        kinds = [
            each.kind
            for each in found.timeline
            if each.gpu == gpu and each.kind in (EntryKind.ISOLATED, EntryKind.RETURNED)
        ]
        assert all(kind is (EntryKind.ISOLATED, EntryKind.RETURNED)[at % 2] for at, kind in enumerate(kinds))
        assert found.ends[gpu].is_isolated is (len(kinds) % 2 == 1)


@given(_LOGS)
def test_a_policy_does_not_differ_from_itself(steps: list[tuple[int, str]]) -> None:
    log = journal_json(timed(steps))
    one, other = replayed(log), replayed(log)

    ends = [list(each.ends.values()) for each in (one, other)]
    assert differences(*ends, (one.tally.kept, other.tally.kept)) == []


_LINES = st.sampled_from([form([(5.0, xid(79))]) for form in STAMPED])


@given(st.one_of(st.binary(max_size=300), st.lists(st.one_of(_LINES, st.binary(max_size=40))).map(b"".join)))
def test_any_bytes_are_a_log_or_bad_input(content: bytes) -> None:
    any_bytes_are_a_log_or_bad_input(content)


@st.composite
def damaged_logs(draw: st.DrawFn) -> bytes:
    """A log of any format with some bytes changed, removed or cut off."""
    content = bytearray(draw(st.sampled_from([*STAMPED, *PEOPLES]))(timed(draw(_LOGS))))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(content[: draw(st.integers(0, len(content)))])


@given(damaged_logs())
def test_a_damaged_log_is_a_log_or_bad_input(content: bytes) -> None:
    any_bytes_are_a_log_or_bad_input(content)


@pytest.mark.long
@pytest.mark.timeout(1800)
class TestLong:
    """The same properties with more examples."""

    @settings(max_examples=share(10_000))
    @given(_LOGS, st.sampled_from([*STAMPED, *PEOPLES]))
    def test_the_form_of_a_log_does_not_matter(self, steps: list[tuple[int, str]], form: Form) -> None:
        form_does_not_matter(steps, form)

    @settings(max_examples=share(10_000))
    @given(st.lists(st.tuples(_STEPS, _CODES), min_size=1, max_size=30))
    def test_a_replay_judges_as_the_fold_does(self, steps: list[tuple[int, int]]) -> None:
        judges_as_the_fold(steps)

    @settings(max_examples=share(10_000))
    @given(damaged_logs())
    def test_a_damaged_log_is_a_log_or_bad_input(self, content: bytes) -> None:
        any_bytes_are_a_log_or_bad_input(content)
