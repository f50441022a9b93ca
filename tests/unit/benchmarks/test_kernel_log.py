"""The log of B4 has the XIDs that its page names; the reader misses none and adds none."""

from itertools import pairwise

from benchmarks import kernel_log


def test_the_log_is_the_same_each_time_and_has_one_xid_in_a_thousand_lines() -> None:
    lines = list(kernel_log.records(200_000))
    xids = [number for number, line in enumerate(lines) if b"NVRM: Xid" in line]

    assert lines == list(kernel_log.records(200_000))
    assert 100 < len(xids) < 400
    assert sum(second - first == 1 for first, second in pairwise(xids)) > len(xids) / 2


def test_the_reader_has_all_of_the_corpus_and_nothing_else_and_tells_every_hole() -> None:
    assert kernel_log.missed_in_corpus() == 0
    assert kernel_log.false_in_corpus() == 0
    assert kernel_log.reported_holes() == kernel_log.HOLES
