"""The `--policy` option of the verbs that evaluate health: single values, or the GPUHealthPolicy of a file."""

import argparse
import json
from pathlib import Path

from gpuvitals.cli.errors import UsageError
from gpuvitals.health.policy import Policy, policy_with
from gpuvitals.yaml_text import yaml_documents

_KIND = "GPUHealthPolicy"


def add_policy_option(
    parser: argparse.ArgumentParser, flag: str = "--policy", purpose: str = "change one policy value"
) -> None:
    """Adds `--policy`, or another flag of its kind, which may be given more than once."""
    parser.add_argument(
        flag,
        action="append",
        default=[],
        metavar="NAME=VALUE|FILE",
        help=f"{purpose}, for example dwell_seconds=60 (docs/reference/policy.md lists them), or all those of a "
        f"{_KIND} in a YAML file, regardless of its match and mode",
    )


def chosen_policy(given: list[str], flag: str = "--policy") -> Policy:
    """The policy of the options; a later one wins. Raises UsageError, which names the flag and the value."""
    values: dict[str, int] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator:
            values |= _of_file(text, flag)
            continue
        if not value.lstrip("-").isdigit():
            raise UsageError(f"{flag} {text!r}: expected NAME=VALUE with a whole number")
        values[name] = int(value)
    try:
        return policy_with(values)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from error


def _of_file(name: str, flag: str) -> dict[str, int]:
    """The values of the one policy in a file."""
    # Imported only for a file, since the modules behind it are slow to import.
    from gpuvitals.kube.policy_watch import PolicyError, policy_rule

    try:
        documents = [each for each in yaml_documents(Path(name).read_text(encoding="utf-8")) if each]
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise UsageError(f"{flag} {name!r}: neither NAME=VALUE nor a readable file: {why}") from error
    except ValueError as error:
        raise UsageError(f"{flag} {name}: not YAML: {' '.join(str(error).split())}") from error
    if len(documents) != 1 or not isinstance(documents[0], dict) or documents[0].get("kind") != _KIND:
        raise UsageError(f"{flag} {name}: expected one document of kind {_KIND}")
    try:
        return dict(policy_rule(_as_json(documents[0])).health)
    except (PolicyError, ValueError) as error:
        raise UsageError(f"{flag} {name}: {error}") from error


def _as_json(document: object) -> bytes:
    """The document as JSON. Raises ValueError for a value without a JSON form: a cycle, or a key that is no string."""
    try:
        return json.dumps(document, default=str, allow_nan=False).encode()
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error
