"""Credentials and connections for the API server: a plain URL, the pod's own account, or a kubeconfig.

A pod's account is two files and two variables, read here. A kubeconfig can have plugins and providers of all kinds: the
official client reads it. That client is imported only then, since it takes 20 MiB (docs/adr/028).
"""

import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import urllib3
from urllib3.connection import HTTPConnection

from gpuvitals.kube.errors import Permanent, Retryable
from gpuvitals.kube.kubeconfig import configuration, official_client
from gpuvitals.observability.logs import keys

log = logging.getLogger(__name__)

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""The mount of a pod's account. Source: kubernetes/kubernetes plugin/pkg/admission/serviceaccount/admission.go."""
_TOKEN_SECONDS = 60.0
"""The kubelet replaces a projected token well before it expires. Source: kubernetes/client-go transport/token_source.go."""
_POOL = 8
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


class Connections(Protocol):
    """The open connections to one server."""

    def pool(self) -> urllib3.HTTPConnectionPool:
        """The connections for the next call. They change when the trusted certificates change."""
        ...

    def doubt(self) -> None:
        """Requests a new read of the trusted certificates before the next call."""
        ...


class Token(Protocol):
    """The token of the caller."""

    def header(self) -> str | None:
        """The present value of the Authorization header, None for no header. Raises Retryable."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Connections to the server, the prefix of every path there (without a slash at its end), and the token."""

    connections: Connections
    prefix: str
    token: Token


def plain(url: str) -> Access:
    """Access to a server without credentials: the simulation. Raises Permanent for an invalid URL."""
    return _access(url, _manager(None), _NoToken())


def pod_account(folder: Path = ACCOUNT, environment: Mapping[str, str] = os.environ) -> Access:
    """Access by the service account of the pod that this process runs in. Raises Permanent."""
    host, port = (environment.get(f"KUBERNETES_SERVICE_{part}", "") for part in ("HOST", "PORT"))
    if not host or not port:
        raise _unusable("$KUBERNETES_SERVICE_HOST is not set, so this is no pod; name a kubeconfig")
    shown = f"[{host}]" if ":" in host else host
    try:
        connections = TrustedConnections(f"https://{shown}:{port}", folder / "ca.crt")
    except OSError as error:  # ssl.SSLError is one
        raise _unusable(f"{folder / 'ca.crt'}: {error}") from error
    token = AccountToken(folder / "token")
    try:
        token.header()
    except Retryable as error:
        raise _unusable(str(error)) from error
    return Access(connections=connections, prefix="", token=token)


def kubeconfig(path: Path) -> Access:
    """Access by the current context of a kubeconfig. Raises Permanent."""
    settings = configuration(path)
    official = official_client()
    manager: urllib3.PoolManager = official.client.ApiClient(settings).rest_client.pool_manager
    return _access(settings.host, manager, _KubeconfigToken(path, settings, official.config.ConfigException))


class TrustedConnections:
    """Connections to a server whose certificate is verified against a file, which is read every `seconds`.

    A cluster replaces its certificates while pods run. An unusable file leaves the last certificates in force.
    Thread safe. Raises OSError if the first file is unusable.
    """

    def __init__(self, url: str, certificates: Path, seconds: float = _TOKEN_SECONDS) -> None:
        self._url = url
        self._path = certificates
        self._seconds = seconds
        self._lock = threading.Lock()
        self._text = certificates.read_bytes()
        self._pool = self._connected(self._text)
        self._checked_at = time.monotonic()

    def pool(self) -> urllib3.HTTPConnectionPool:
        """The connections for the next call."""
        if time.monotonic() - self._checked_at >= self._seconds:
            with self._lock:
                self._check()
        return self._pool

    def doubt(self) -> None:
        """Requests a new read: the server's certificate was refused, and may be newer than the file."""
        self._checked_at = -self._seconds

    def _check(self) -> None:
        self._checked_at = time.monotonic()
        try:
            text = self._path.read_bytes()
            if text == self._text:
                return
            pool = self._connected(text)
        except OSError as error:  # ssl.SSLError is one
            log.warning("certificates not read, the last ones are used", extra=keys(error=str(error)))
            return
        # Open calls and watches keep their old connections; idle ones are closed.
        old, self._pool, self._text = self._pool, pool, text
        old.close()
        log.info("certificates of the api server replaced", extra=keys(path=str(self._path)))

    def _connected(self, text: bytes) -> urllib3.HTTPConnectionPool:
        # Comments between certificates may be in any language.
        tls = ssl.create_default_context(cadata=text.decode("ascii", errors="ignore") or None)
        if not text.strip() or not tls.get_ca_certs():
            raise OSError("no certificates in it")
        return _manager(tls).connection_from_url(self._url)


class AccountToken:
    """The token of a file that is read again every `seconds`. The file may be missing for a moment during its
    replacement.
    """

    def __init__(self, path: Path, seconds: float = _TOKEN_SECONDS) -> None:
        self._path = path
        self._seconds = seconds
        self._read: tuple[str, float] | None = None

    def header(self) -> str:
        """The Authorization header. Raises Retryable while the file cannot be read."""
        read = self._read
        if read is None or time.monotonic() - read[1] >= self._seconds:
            self._read = read = self._fresh_header(), time.monotonic()
        return read[0]

    def _fresh_header(self) -> str:
        try:
            token = self._path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Retryable(
                f"token of the service account: {error}; it is read again with the next call"
            ) from error
        if not token:
            raise Retryable(
                f"token of the service account: {self._path} is empty; it is read again with the next call"
            )
        return f"Bearer {token}"


class _NoToken:
    def header(self) -> None:
        return None


class _KubeconfigToken:
    """The token that the official client keeps fresh in `settings`, or gets from a plugin."""

    def __init__(self, path: Path, settings: Any, config_error: type[Exception]) -> None:
        self._path = path
        self._settings = settings
        self._config_error = config_error

    def header(self) -> str | None:
        try:
            found = self._settings.get_api_key_with_prefix("BearerToken", alias="authorization")
        except (self._config_error, OSError) as error:
            raise Retryable(f"token of {self._path}: {error}; the next call requests it again") from error
        return found.strip() if found else None


class _FixedConnections:
    """The connections to one server, found by its URL once: a search in each call costs a tenth of its time."""

    def __init__(self, pool: urllib3.HTTPConnectionPool) -> None:
        self._pool = pool

    def pool(self) -> urllib3.HTTPConnectionPool:
        return self._pool

    def doubt(self) -> None:
        """Does nothing: the certificates of a kubeconfig are fixed."""


def _manager(tls: ssl.SSLContext | None) -> urllib3.PoolManager:
    options = [*HTTPConnection.default_socket_options, *_KEEPALIVE]
    return urllib3.PoolManager(maxsize=_POOL, ssl_context=tls, socket_options=options)


def _access(url: str, manager: urllib3.PoolManager, token: Token) -> Access:
    """Raises Permanent for an invalid URL."""
    try:
        prefix = urllib3.util.parse_url(url).path or ""
        pool = manager.connection_from_url(url)
    except urllib3.exceptions.LocationValueError as error:
        raise Permanent(
            f"server {url!r}: is no URL of an API server, such as https://10.0.0.1:6443: {error}"
        ) from error
    return Access(connections=_FixedConnections(pool), prefix=prefix.rstrip("/"), token=token)


def _unusable(why: str) -> Permanent:
    return Permanent(f"kubernetes credentials: {why}; the agent can't reach the API server")
