"""Where the API server is and who we are there: a plain URL, the pod's own account, or a kubeconfig.

A pod's account is two files and two variables, read here. A kubeconfig can hold plugins and providers of all kinds: the
official client reads it, and is imported only then, since it costs 20 MiB (docs/adr/028).
"""

import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import urllib3
from urllib3.connection import HTTPConnection

from gpuvitals.kube.errors import Permanent, Retryable
from gpuvitals.kube.kubeconfig import configuration, official_client
from gpuvitals.observability.logs import keys

log = logging.getLogger(__name__)

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its account. Source: kubernetes/kubernetes plugin/pkg/admission/serviceaccount/admission.go."""
_TOKEN_SECONDS = 60.0
"""The kubelet replaces a projected token well before it expires. Source: kubernetes/client-go transport/token_source.go."""
_POOL = 8
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)

Token = Callable[[], str | None]
"""The value of the Authorization header as it is now, None for none. Raises Retryable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A way in: kept connections to the server, and what stands before every path there, with no slash at its end.

    `pool` gives the connections of now: they change with the certificates that the server is believed by.
    `doubt` has those certificates looked at again before the next call.
    """

    pool: Callable[[], urllib3.HTTPConnectionPool]
    prefix: str
    token: Token
    doubt: Callable[[], None] = lambda: None


def plain(url: str) -> Access:
    """A server that asks for no credentials: the simulation. Raises Permanent for a URL that is none."""
    return _access(url, _manager(None), lambda: None)


def pod_account(folder: Path = ACCOUNT, environment: Mapping[str, str] = os.environ) -> Access:
    """The service account of the pod that this process runs in. Raises Permanent."""
    host, port = (environment.get(f"KUBERNETES_SERVICE_{part}", "") for part in ("HOST", "PORT"))
    if not host or not port:
        raise _unusable("$KUBERNETES_SERVICE_HOST is not set, so this is no pod; name a kubeconfig")
    shown = f"[{host}]" if ":" in host else host
    try:
        pool = TrustedPool(f"https://{shown}:{port}", folder / "ca.crt")
    except OSError as error:  # ssl.SSLError is one
        raise _unusable(f"{folder / 'ca.crt'}: {error}") from error
    token = AccountToken(folder / "token")
    try:
        token()
    except Retryable as error:
        raise _unusable(str(error)) from error
    return Access(pool=pool, prefix="", token=token, doubt=pool.doubt)


def kubeconfig(path: Path) -> Access:
    """The current context of a kubeconfig. Raises Permanent."""
    settings = configuration(path)
    kubernetes = official_client()

    def token() -> str | None:
        try:
            found = settings.get_api_key_with_prefix("BearerToken", alias="authorization")
        except (kubernetes.config.ConfigException, OSError) as error:
            raise Retryable(f"token of {path}: {error}; it is asked for again with the next call") from error
        return found.strip() if found else None

    manager: urllib3.PoolManager = kubernetes.client.ApiClient(settings).rest_client.pool_manager
    return _access(settings.host, manager, token)


class TrustedPool:
    """Connections to a server that is believed by a file of certificates, which is looked at every `seconds`.

    The certificates of a cluster are replaced while its pods run. A file that can't be used leaves the last one in force.
    Thread safe. Raises OSError where the first file can't be used.
    """

    def __init__(self, url: str, certificates: Path, seconds: float = _TOKEN_SECONDS) -> None:
        self._url = url
        self._path = certificates
        self._seconds = seconds
        self._lock = threading.Lock()
        self._text = certificates.read_bytes()
        self._pool = self._connected(self._text)
        self._checked_at = time.monotonic()

    def __call__(self) -> urllib3.HTTPConnectionPool:
        """The connections for the next call."""
        if time.monotonic() - self._checked_at >= self._seconds:
            with self._lock:
                self._check()
        return self._pool

    def doubt(self) -> None:
        """A server was not believed: its certificates may be newer than the file that was read."""
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
        # Calls and watches on old connections go on; idle ones are closed.
        old, self._pool, self._text = self._pool, pool, text
        old.close()
        log.info("certificates of the api server read again", extra=keys(path=str(self._path)))

    def _connected(self, text: bytes) -> urllib3.HTTPConnectionPool:
        # Comments between certificates may be in any language.
        tls = ssl.create_default_context(cadata=text.decode("ascii", errors="ignore") or None)
        if not text.strip() or not tls.get_ca_certs():
            raise OSError("no certificates in it")
        return _manager(tls).connection_from_url(self._url)


class AccountToken:
    """The Authorization header from a token file, which is read again every `seconds`. One that is being replaced may
    be missing for a moment.
    """

    def __init__(self, path: Path, seconds: float = _TOKEN_SECONDS) -> None:
        self._path = path
        self._seconds = seconds
        self._read: tuple[str, float] | None = None

    def __call__(self) -> str:
        read = self._read
        if read is None or time.monotonic() - read[1] >= self._seconds:
            self._read = read = self._header(), time.monotonic()
        return read[0]

    def _header(self) -> str:
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


def _manager(tls: ssl.SSLContext | None) -> urllib3.PoolManager:
    options = [*HTTPConnection.default_socket_options, *_KEEPALIVE]
    return urllib3.PoolManager(maxsize=_POOL, ssl_context=tls, socket_options=options)


def _access(url: str, manager: urllib3.PoolManager, token: Token) -> Access:
    """Only this server's connections: to find them by its URL anew would cost every call a tenth of its time.

    Raises Permanent for a URL that is none.
    """
    try:
        prefix = urllib3.util.parse_url(url).path or ""
        pool = manager.connection_from_url(url)
    except urllib3.exceptions.LocationValueError as error:
        raise Permanent(
            f"server {url!r}: is no URL of an API server, such as https://10.0.0.1:6443: {error}"
        ) from error
    return Access(pool=lambda: pool, prefix=prefix.rstrip("/"), token=token)


def _unusable(why: str) -> Permanent:
    return Permanent(f"kubernetes credentials: {why}; the agent can't reach the API server")
