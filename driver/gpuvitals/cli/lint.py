"""`gpuvitals lint`: finds mistakes in claims before they are applied to a cluster."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from gpuvitals.cli.errors import UsageError
from gpuvitals.inventory.naming import Naming
from gpuvitals.lint.findings import Finding, Level
from gpuvitals.lint.linter import FileError, LintSettings, lint

_STDIN = "-"
_NAMES = Naming()


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "lint", help="find mistakes in claims, device classes and the pods that use them"
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="a manifest in YAML or JSON; - reads standard input"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument(
        "--driver", default=_NAMES.driver, help=f"the driver's name; default: {_NAMES.driver}"
    )
    parser.add_argument(
        "--domain",
        default=_NAMES.attribute_domain,
        help=f"the domain of the health attributes; default: {_NAMES.attribute_domain}",
    )
    parser.add_argument(
        "--class",
        dest="classes",
        action="append",
        default=[],
        metavar="NAME",
        help="a DeviceClass of the cluster that selects only this driver's devices; can be repeated",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the findings. Returns 0 if there are only hints or none, else 1."""
    naming = Naming(driver=options.driver, attribute_domain=options.domain)
    texts = {_shown(name): _text(name) for name in options.files}
    if not any(text.strip() for text in texts.values()):
        # The command before the pipe may have failed, so empty input is an error.
        raise UsageError(f"lint: {', '.join(texts)}: empty; expected a manifest in YAML or JSON")
    try:
        found = lint(texts, LintSettings(naming=naming, classes=tuple(options.classes)))
    except FileError as error:
        raise UsageError(f"lint: {error}") from error
    if options.json:
        print(json.dumps([asdict(one) for one in found], indent=2))
    else:
        for one in found:
            print(one)
    return 1 if any(_counts(one) for one in found) else 0


def _counts(finding: Finding) -> bool:
    return finding.level == Level.FINDING.value


def _shown(name: str) -> str:
    return "<stdin>" if name == _STDIN else name


def _text(name: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if name == _STDIN else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"lint: {name}: {(error.strerror or 'unreadable').lower()}") from error
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UsageError(f"lint: {_shown(name)}:{line}: not UTF-8 text") from error
