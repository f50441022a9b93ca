"""Reads kubeconfig files with the official client; errors and the choice of context follow kubectl.

The client is an extra of this distribution (docs/adr/028), and only this package imports it. Several files are one path,
separated as in $KUBECONFIG.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpuvitals.kube.errors import Permanent


def configuration(files: Path) -> Any:
    """The client's settings for the current context. Raises Permanent with the names of the files."""
    import yaml

    official = official_client()
    config = official.config
    settings = official.client.Configuration()
    try:
        config.load_kube_config(str(files), context=_context(files), client_configuration=settings)
    except (config.ConfigException, OSError, yaml.YAMLError) as error:
        raise Permanent(f"kubeconfig {files}: {_one_line(error)}") from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        # The client does not check the form of the parsed document.
        raise Permanent(f"kubeconfig {files}: is no kubeconfig: {_one_line(error)}") from error
    if not settings.host:
        raise Permanent(f"kubeconfig {files}: the cluster of the current context has no server")
    return settings


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficialClient:
    """The parts of the package `kubernetes` that are used here; it has no types. `stream` speaks the exec protocol."""

    client: Any
    config: Any
    stream: Any
    websocket_error: type[Exception]


def official_client() -> OfficialClient:
    """The Kubernetes client, an extra of this distribution. Raises Permanent if it is not installed."""
    try:
        import kubernetes.stream
        from websocket import WebSocketException
    except ImportError as error:
        raise Permanent(
            "the Kubernetes client, which reads kubeconfigs, is not installed; "
            f"install it with: pip install 'gpuvitals[kubeconfig]' ({error})"
        ) from error
    return OfficialClient(
        client=kubernetes.client,
        config=kubernetes.config,
        stream=kubernetes.stream.stream,
        websocket_error=WebSocketException,
    )


def split(files: str) -> list[Path]:
    """The files in a value of $KUBECONFIG, in its order."""
    return [Path(os.path.expanduser(name)) for name in files.split(os.pathsep) if name]


def _context(files: Path) -> str | None:
    """The first current context among several files, as kubectl chooses; the client would take the last.

    None leaves the choice to the client.

    Source: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/, "Merging kubeconfig files".
    """
    import yaml

    paths = [path for path in split(str(files)) if path.is_file()]
    if len(paths) < 2:
        return None
    for path in paths:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(document, dict) and document.get("current-context"):
            return str(document["current-context"])
    return None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
