"""`gpuvitals replay`: what the agent would have made of saved logs, and whether that would have been right."""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack

from gpuvitals.cli.errors import INCOMPLETE, UsageError
from gpuvitals.cli.log_input import opened
from gpuvitals.cli.policy_option import add_policy_option, chosen_policy
from gpuvitals.replay.comparison import differences
from gpuvitals.replay.findings import Happening
from gpuvitals.replay.history import History
from gpuvitals.replay.reader import LogError, LogReader
from gpuvitals.replay.report import Ending, ending_json, ending_text, happening_json, happening_text

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
        help="of one node; put in order by the wall clock, else read as given, oldest first: /dev/kmsg, dmesg, syslog files, "
        "journalctl, kubectl, JSON of log services, recorded signals; also packed by gzip, bzip2 or xz; - reads standard input",
    )
    add_policy_option(parser)
    add_policy_option(
        parser, "--compare", "judge by a second policy too, with this value, and say what differs"
    )
    parser.add_argument(
        "--gpus",
        type=int,
        default=_USUAL_GPUS,
        help=f"how many GPUs the node has: at most half of them leave service on suspicion; default: {_USUAL_GPUS}",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line, the summary last")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the timeline and the summary. 0, whatever the log says; 3 where lines of a driver could not be read.

    Bad input raises UsageError.
    """
    if not 1 <= options.gpus <= _MOST_GPUS:
        raise UsageError(f"--gpus: {options.gpus} is not from 1 to {_MOST_GPUS}")
    history = History(chosen_policy(options.policy), options.gpus)
    other = History(chosen_policy(options.compare, "--compare"), options.gpus) if options.compare else None
    reader = LogReader()
    print_one = happening_json if options.json else happening_text

    def tell(found: Iterator[Happening]) -> None:
        for happening in found:
            print(print_one(happening, is_wall=reader.clock.is_wall))

    try:
        with ExitStack() as closing:
            for log in opened(options.logs, closing):
                for heard in reader.read(log.name, log.blocks, log.latest):
                    tell(history.take(heard, reader.clock.now))
                    if other is not None:
                        _exhaust(other.take(heard, reader.clock.now))
        tell(history.end(reader.clock.now))
        if other is not None:
            _exhaust(other.end(reader.clock.now))
        ending = _ending(reader, history, other)
        print(ending_json(ending) if options.json else "\n".join(ending_text(ending)), flush=True)
    except LogError as error:
        raise UsageError(f"replay: {error}") from error
    return INCOMPLETE if reader.counts.is_incomplete else 0


def _ending(reader: LogReader, history: History, other: History | None) -> Ending:
    now = reader.clock.now
    ends = history.ends(now)
    differing = None
    if other is not None:
        differing = differences(ends, other.ends(now), (history.tally.kept, other.tally.kept))
    return Ending(
        counts=reader.counts,
        steps_back=reader.clock.steps_back,
        is_wall=reader.clock.is_wall,
        began=reader.clock.began,
        ended=now,
        tally=history.tally,
        gpus=ends,
        differences=differing,
    )


def _exhaust(found: Iterator[Happening]) -> None:
    for _ in found:
        pass
