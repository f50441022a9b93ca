"""The `gpuvitals` command: finds the verb, turns bad input into one line and exit code 2."""

import argparse
import sys
from collections.abc import Sequence

from gpuvitals.cli import demo, explain, node, status
from gpuvitals.cli.errors import UsageError

_VERBS = (node, demo, status, explain)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb and returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="gpuvitals", description="GPU health as a property of the device: a DRA driver for NVIDIA GPUs."
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for verb in _VERBS:
        verb.add_parser(verbs)
    options = parser.parse_args(arguments)
    try:
        code: int = options.run(options)
    except UsageError as error:
        print(f"gpuvitals: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
