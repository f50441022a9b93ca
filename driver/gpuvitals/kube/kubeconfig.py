"""Kubeconfig files, read by the official client, with the errors and the choice of context that kubectl has.

The client is imported only here and for `exec` (docs/adr/028). Several files are one path, separated as in $KUBECONFIG.
"""

import os
from pathlib import Path
from typing import Any

from gpuvitals.kube.errors import Permanent


def configuration(files: Path) -> Any:
    """The client's settings for the current context. Raises Permanent, which names the files."""
    import yaml

    kubernetes = official_client()
    config = kubernetes.config
    settings = kubernetes.client.Configuration()
    try:
        config.load_kube_config(str(files), context=_context(files), client_configuration=settings)
    except (config.ConfigException, OSError, yaml.YAMLError) as error:
        raise Permanent(f"kubeconfig {files}: {_one_line(error)}") from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        # The client uses what it parsed as if it had the right form.
        raise Permanent(f"kubeconfig {files}: is no kubeconfig: {_one_line(error)}") from error
    if not settings.host:
        raise Permanent(f"kubeconfig {files}: the cluster of the current context has no server")
    return settings


def official_client() -> Any:
    """The package `kubernetes`, an extra of this distribution. Raises Permanent where it is not installed."""
    try:
        import kubernetes.stream
    except ImportError as error:
        raise Permanent(
            "the Kubernetes client, which reads kubeconfigs, is not installed; "
            f"install it with: pip install 'gpuvitals[kubeconfig]' ({error})"
        ) from error
    return kubernetes


def split(files: str) -> list[Path]:
    """The files that a value of $KUBECONFIG names, in its order."""
    return [Path(os.path.expanduser(name)) for name in files.split(os.pathsep) if name]


def _context(files: Path) -> str | None:
    """The first context that is set, as kubectl chooses; the client alone takes the last. None leaves it to the client.

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
