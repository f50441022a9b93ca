"""`gpuvitals replay`: replays saved logs through the health fold and rates the isolations it would have made."""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack

from gpuvitals.cli.errors import INCOMPLETE, UsageError
from gpuvitals.cli.log_input import opened
from gpuvitals.cli.policy_option import add_policy_option, chosen_policy
from gpuvitals.replay.comparison import differences
from gpuvitals.replay.history import History
from gpuvitals.replay.reader import LogError, LogReader
from gpuvitals.replay.report import Ending, ending_json, ending_text, entry_json, entry_text
from gpuvitals.replay.timeline import TimelineEntry

_USUAL_GPUS = 8
_MOST_GPUS = 1024


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "replay",
        help="replay saved kernel logs of a node: the verdicts, and whether the rest of the log confirms them",
    )
    parser.add_argument(
        "logs",
        nargs="+",
        metavar="LOG",
        help="logs of one node, sorted by the wall clock, else read in the order given, oldest first: /dev/kmsg, dmesg, syslog, "
        "journalctl, kubectl, JSON of log services, recorded signals; also compressed by gzip, bzip2 or xz; - reads standard input",
    )
    add_policy_option(parser)
    add_policy_option(
        parser, "--compare", "evaluate a second policy with this value too, and print the differences"
    )
    parser.add_argument(
        "--gpus",
        type=int,
        default=_USUAL_GPUS,
        help=f"number of GPUs of the node, for the isolation cap; default: {_USUAL_GPUS}",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line, the summary last")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the timeline and the summary. Returns 0, or 3 if driver lines could not be parsed.

    Raises UsageError for bad input.
    """
    if not 1 <= options.gpus <= _MOST_GPUS:
        raise UsageError(f"--gpus: {options.gpus} is not from 1 to {_MOST_GPUS}")
    history = History(chosen_policy(options.policy), options.gpus)
    other = History(chosen_policy(options.compare, "--compare"), options.gpus) if options.compare else None
    reader = LogReader()
    print_one = entry_json if options.json else entry_text

    def print_entries(entries: Iterator[TimelineEntry]) -> None:
        for entry in entries:
            print(print_one(entry, is_wall=reader.clock.is_wall))

    try:
        with ExitStack() as closing:
            for log in opened(options.logs, closing):
                for event in reader.read(log.name, log.blocks, log.latest):
                    print_entries(history.take(event, reader.clock.now))
                    if other is not None:
                        _exhaust(other.take(event, reader.clock.now))
        print_entries(history.end(reader.clock.now))
        if other is not None:
            _exhaust(other.end(reader.clock.now))
        ending = _ending(reader, history, other)
        print(ending_json(ending) if options.json else "\n".join(ending_text(ending)), flush=True)
    except LogError as error:
        raise UsageError(f"replay: {error}") from error
    return INCOMPLETE if reader.counts.is_incomplete else 0


def _ending(reader: LogReader, history: History, other: History | None) -> Ending:
    now = reader.clock.now
    summaries = history.summaries(now)
    differing = None
    if other is not None:
        differing = differences(summaries, other.summaries(now), (history.tally.kept, other.tally.kept))
    return Ending(
        counts=reader.counts,
        steps_back=reader.clock.steps_back,
        is_wall=reader.clock.is_wall,
        began=reader.clock.began,
        ended=now,
        tally=history.tally,
        gpus=summaries,
        differences=differing,
    )


def _exhaust(entries: Iterator[TimelineEntry]) -> None:
    for _ in entries:
        pass
