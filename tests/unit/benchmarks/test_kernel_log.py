"""B4 counts what it says it counts, and the reader misses nothing and makes nothing up."""

from itertools import pairwise

from benchmarks import kernel_log


def test_the_log_is_the_same_each_time_and_has_one_xid_in_a_thousand_lines() -> None:
    lines = list(kernel_log.made(200_000))
    xids = [number for number, line in enumerate(lines) if b"NVRM: Xid" in line]

    assert lines == list(kernel_log.made(200_000))
    assert 100 < len(xids) < 400
    assert sum(second - first == 1 for first, second in pairwise(xids)) > len(xids) / 2


def test_the_reader_has_all_of_the_corpus_and_nothing_else_and_tells_every_hole() -> None:
    assert kernel_log.missed_in_corpus() == 0
    assert kernel_log.false_in_corpus() == 0
    assert kernel_log.told_holes() == kernel_log.HOLES
