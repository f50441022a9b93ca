"""`gpuvitals replay`: what the agent would have made of saved logs, and whether that would have been right."""

import argparse
import gzip
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, cast

from gpuvitals.cli.errors import UsageError
from gpuvitals.cli.policy_option import add_policy_option, chosen_policy
from gpuvitals.replay.comparison import differences
from gpuvitals.replay.findings import Happening
from gpuvitals.replay.history import History
from gpuvitals.replay.reader import LogError, LogReader, first_stamp
from gpuvitals.replay.report import Ending, ending_json, ending_text, happening_json, happening_text

_STDIN = "-"
_BLOCK = 1 << 20
_GZIP_START = b"\x1f\x8b"
_USUAL_GPUS = 8
_MOST_GPUS = 1024


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "replay",
        help="say what gpuvitals would have made of saved kernel logs of a node, and how right that was",
    )
    parser.add_argument(
        "logs",
        nargs="+",
        metavar="LOG",
        help="of one node; put in order by the wall clock, else read as given, oldest first: /dev/kmsg, dmesg, kern.log, journalctl (also -o json, -o export), recorded "
        "signals; also gzipped; - reads standard input",
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
    """Prints the timeline and the summary. 0, whatever the log says; bad input raises UsageError."""
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
        for name in _in_order(options.logs):
            with _opened(name) as (shown, file, latest):
                for heard in reader.read(shown, _blocks(shown, file), latest):
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
    except BrokenPipeError:
        # Whoever reads has seen enough. What Python would still flush at its end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


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


def _in_order(names: list[str]) -> list[str]:
    """The oldest first, where the wall clock tells for all of them: a shell's `kern.log*` begins with the newest."""
    if _STDIN in names or len(names) == 1:
        return names
    found: list[tuple[float, str]] = []
    for name in names:
        with _opened(name) as (shown, file, latest):
            stamp = first_stamp(_blocks(shown, file), latest)
        if stamp is None or not stamp.is_wall:
            return names
        found.append((stamp.seconds, name))
    return [name for _, name in sorted(found, key=lambda each: each[0])]


def _exhaust(found: Iterator[Happening]) -> None:
    for _ in found:
        pass


@contextmanager
def _opened(name: str) -> Iterator[tuple[str, BinaryIO, datetime]]:
    """The file, how it is called in messages, and when it was last written. Raises UsageError."""
    if name == _STDIN:
        yield "<stdin>", sys.stdin.buffer, datetime.now(UTC)
        return
    with ExitStack() as closing:
        try:
            file = closing.enter_context(Path(name).open("rb"))
            latest = datetime.fromtimestamp(Path(name).stat().st_mtime, UTC)
            is_packed = file.read(len(_GZIP_START)) == _GZIP_START
            file.seek(0)
        except OSError as error:
            raise UsageError(f"replay: {name}: {(error.strerror or str(error)).lower()}") from error
        yield name, cast(BinaryIO, closing.enter_context(gzip.open(file)) if is_packed else file), latest


def _blocks(name: str, file: BinaryIO) -> Iterator[bytes]:
    """Raises LogError where the file can't be read to its end."""
    try:
        while block := file.read(_BLOCK):
            yield block
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise LogError(f"{name}: is damaged or cut off: {str(error).lower()}") from error
    except OSError as error:
        raise LogError(f"{name}: {(error.strerror or str(error)).lower()}") from error
