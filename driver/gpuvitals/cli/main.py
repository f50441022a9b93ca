"""The `gpuvitals` command: runs a verb, and reports bad input or unwritable output in one line and an exit code."""

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from typing import Any, NoReturn

from gpuvitals.cli.errors import UsageError
from gpuvitals.cli.output import OutputError, checked_output, complain

_VERBS = ("node", "status", "explain", "forget", "replay", "report", "lint", "doctor")
"""Modules in this package. Only the requested one is imported, which keeps the agent's start short."""

_PLUGIN_VERBS = "gpuvitals.verbs"
"""The entry-point group by which another distribution adds verbs. Each entry is a module with `add_parser`."""

_SIM_VERBS = ("demo", "inject")
"""The verbs that the distribution gpuvitals-sim adds."""


class _Parser(argparse.ArgumentParser):
    """Reports errors in one line, as every verb does, and accepts no abbreviated flags."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """Raises UsageError."""
        verb = self.prog.removeprefix("gpuvitals").strip()
        raise UsageError(f"{verb}: {message}" if verb else f"{message}; gpuvitals --help lists the verbs")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb and returns its exit code."""
    if arguments is None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # A KeyboardInterrupt inside a destructor is lost. A verb that must clean up uses a Termination.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        with checked_output():
            return _run(arguments)
    except OutputError as error:
        complain(str(error))
        return error.code
    except UsageError as error:
        complain(str(error))
        return 2
    except KeyboardInterrupt:
        return 130


def _run(arguments: Sequence[str] | None) -> int:
    parser = _Parser(
        prog="gpuvitals",
        description="GPU health as a property of the device: a DRA driver for NVIDIA GPUs.",
    )
    parser.add_argument("--version", action="version", version=f"gpuvitals {_version()}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    given = sys.argv[1:] if arguments is None else arguments
    for module in _modules(given[0] if given else ""):
        module.add_parser(verbs)
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        verb = next(word for word in given if word in verbs.choices)
        raise UsageError(
            f"{verb}: unrecognized arguments: {' '.join(unknown)}; gpuvitals {verb} --help lists its flags"
        )
    code: int = options.run(options)
    return code


def _modules(verb: str) -> list[Any]:
    """The module of `verb`, or all modules for an unknown word. Raises UsageError for a verb that is not installed."""
    if verb in _VERBS:
        return [import_module(f"gpuvitals.cli.{verb}")]
    added = {entry.name: entry for entry in metadata.entry_points(group=_PLUGIN_VERBS)}
    if verb in added:
        return [added[verb].load()]
    if verb in _SIM_VERBS:
        raise UsageError(
            f"{verb}: the simulated cluster is not installed; install it with: pip install 'gpuvitals[sim]'"
        )
    own = [import_module(f"gpuvitals.cli.{name}") for name in _VERBS]
    return own + [entry.load() for _, entry in sorted(added.items())]


def _version() -> str:
    """The version of the installed distribution; a checkout that was not installed has none."""
    try:
        return metadata.version("gpuvitals")
    except metadata.PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
