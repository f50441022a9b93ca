"""The `--policy NAME=VALUE` option, shared by the verbs that judge."""

import argparse

from gpuvitals.cli.errors import UsageError
from gpuvitals.health.policy import Policy, policy_with


def add_policy_option(
    parser: argparse.ArgumentParser, flag: str = "--policy", purpose: str = "change one policy value"
) -> None:
    """Adds `--policy`, or another flag of its kind, which may be given more than once."""
    parser.add_argument(
        flag,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"{purpose}, for example dwell_seconds=60 (docs/reference/policy.md lists them)",
    )


def chosen_policy(given: list[str], flag: str = "--policy") -> Policy:
    """The policy that the options make. Raises UsageError naming the flag and the value."""
    values: dict[str, int] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or not value.lstrip("-").isdigit():
            raise UsageError(f"{flag} {text!r}: expected NAME=VALUE with a whole number")
        values[name] = int(value)
    try:
        return policy_with(values)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from error
