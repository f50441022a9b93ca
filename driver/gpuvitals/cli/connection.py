"""Connection settings of the verbs: flags, else the kubeconfig that kubectl would use, else the pod's own account."""

import argparse
import os
import re
from pathlib import Path

from gpuvitals.cli.errors import UsageError
from gpuvitals.kube.kubeconfig import split
from gpuvitals.kube.transport import ConnectSettings

_NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\Z")
_HOME_CONFIG = Path(".kube") / "config"


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--kubeconfig` and `--server`."""
    parser.add_argument(
        "--kubeconfig", type=Path, help="default: $KUBECONFIG, ~/.kube/config, or in a pod its own account"
    )
    parser.add_argument("--server", default="", help="a plain URL instead, as the simulation prints it")


def node_name(text: str) -> str:
    """Checks the name of a Node, for argparse. Raises ArgumentTypeError."""
    if _NODE_NAME.match(text) is None:
        raise argparse.ArgumentTypeError(f"{text[:80]!a} is not a valid Node name")
    return text


def connection(options: argparse.Namespace) -> ConnectSettings:
    """The settings of flags and environment. Raises UsageError, which names the flag or variable at fault."""
    if options.server:
        return ConnectSettings(url=options.server)
    if options.kubeconfig is not None:
        return ConnectSettings(kubeconfig=_existing(options.kubeconfig, "--kubeconfig"))
    named = os.environ.get("KUBECONFIG", "")
    if named:
        return ConnectSettings(kubeconfig=_listed(named))
    at_home = Path(os.path.expanduser("~")) / _HOME_CONFIG  # Path.home() raises for a login without a home
    if at_home.is_file():
        return ConnectSettings(kubeconfig=at_home)
    if "KUBERNETES_SERVICE_HOST" not in os.environ:
        raise UsageError(
            "--kubeconfig: not given, $KUBECONFIG is not set, ~/.kube/config is not there, and this is no pod"
        )
    return ConnectSettings()


def _existing(path: Path, name: str) -> Path:
    if not path.is_file():
        raise UsageError(f"{name} {path}: {'is a directory' if path.is_dir() else 'no such file'}")
    return path


def _listed(named: str) -> Path:
    """A list of files, as kubectl accepts it: missing ones among several are ignored."""
    if any(path.is_file() for path in split(named)):
        return Path(named)
    return _existing(Path(named), "$KUBECONFIG")
