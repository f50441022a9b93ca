"""The transport over real sockets: errors translated once, deadlines kept, tokens read again."""

import ssl
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gpuvitals.kube.credentials import Access, AccountToken, TrustedConnections, plain, pod_account
from gpuvitals.kube.errors import (
    ApiError,
    Conflict,
    Gone,
    Invalid,
    NoSuchObject,
    NotFound,
    Permanent,
    Refused,
    Retryable,
)
from gpuvitals.kube.transport import ApiTransport, Call, ConnectSettings, connect
from gpuvitals_sim.apiserver import ApiServer
from support.fakes.scripted_server import Answer, scripted
from support.realkube.pki import Pki

CALL = Call(method="GET", path="/x")
AUTHORITY = """
-----BEGIN CERTIFICATE-----
MIIBbjCCARWgAwIBAgIUYnmEorlpx4njYioByy00KKit+4cwCgYIKoZIzj0EAwIw
DDEKMAgGA1UEAwwBYTAgFw0yNjExMjUwNjM4NDhaGA8yMTI2MTEwMTA2Mzg0OFow
DDEKMAgGA1UEAwwBYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABM4ZrPmvbT7j
KbkWzF0QetRiiRY/GkTwlNb/8OoF50QsRYBSH33ln6pJXsEUYfdJ9ZcE0/rSpJX3
66XaOc58HD+jUzBRMB0GA1UdDgQWBBTtClucz4ggNDK30zdnMMp+uTkVozAfBgNV
HSMEGDAWgBTtClucz4ggNDK30zdnMMp+uTkVozAPBgNVHRMBAf8EBTADAQH/MAoG
CCqGSM49BAMCA0cAMEQCIA6V2z0zO+ic2wdRRdbA/kOYZjHCgHkDtB2iz9D39Bgs
AiAeC7QwD687vG8DVTlYd7IrwADWTsO5N0rM/hJpAxzc/w==
-----END CERTIFICATE-----
"""
"""Any certificate: nobody is asked to prove anything by it."""


def answered(answer: Answer, call: Call = CALL) -> ApiError:
    with scripted(lambda method, target: answer) as script, pytest.raises(ApiError) as caught:
        connect(ConnectSettings(url=script.url)).request(call)
    return caught.value


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (401, "Unauthorized", Retryable),
        (403, "forbidden", Refused),
        (404, "no", NotFound),
        (409, "modified", Conflict),
        (410, "too old", Gone),
        (422, "spec: wrong", Invalid),
        (422, 'changing status.devices requires resource="resourceclaims/driver"', Refused),
        (429, "slow down", Retryable),
        (400, "bad", Invalid),
        (302, "elsewhere", Retryable),
        (408, "slow", Retryable),
        (503, "later", Retryable),
        (504, "later", Retryable),
    ],
)
def test_each_code_is_one_kind_of_error_that_names_the_call(
    status: int, message: str, kind: type[ApiError]
) -> None:
    body = b'{"kind":"Status","reason":"R","message":"' + message.replace('"', '\\"').encode() + b'"}'
    error = answered(Answer(status=status, chunks=(body,)))

    assert type(error) is kind
    assert (error.status, error.reason) == (status, "R")
    assert "GET /x" in str(error)
    assert message in str(error)


def test_a_validation_names_its_fields() -> None:
    body = b'{"kind":"Status","reason":"Invalid","message":"m","details":{"causes":[{"field":"spec.devices[0].name"},{"reason":"x"}]}}'

    assert answered(Answer(status=422, chunks=(body,))).fields == ("spec.devices[0].name",)


def test_a_proxys_page_is_still_an_error_with_its_code() -> None:
    error = answered(Answer(status=502, chunks=(b"<html>bad gateway</html>",)))

    assert isinstance(error, Retryable)
    assert "bad gateway" in str(error)


@pytest.mark.parametrize("status", [301, 400, 405, 413, 418, 422])
def test_a_page_that_is_no_status_is_a_proxys_and_is_tried_again(status: int) -> None:
    """Finding R12: a proxy's passing answer is no verdict on the request."""
    assert isinstance(answered(Answer(status=status, chunks=(b"<html>no</html>",))), Retryable)


@pytest.mark.parametrize(
    ("details", "kind"), [(b'{"name":"c","kind":"resourceclaims"}', NoSuchObject), (b"{}", NotFound)]
)
def test_only_a_404_that_names_an_object_says_that_it_does_not_exist(
    details: bytes, kind: type[ApiError]
) -> None:
    """Finding K1: a server that starts answers 404 for paths that it does not serve yet."""
    body = b'{"kind":"Status","reason":"NotFound","message":"m","details":' + details + b"}"

    assert type(answered(Answer(status=404, chunks=(body,)))) is kind


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("soon", None), ("²", None)])
def test_retry_after_is_heard_where_it_is_a_number(header: str, seconds: float | None) -> None:
    headers = (("Retry-After", header.encode().decode("latin-1")),)
    error = answered(Answer(status=429, headers=headers))

    assert isinstance(error, Retryable)
    assert error.retry_after_seconds == seconds


def test_nobody_listening_is_retryable_and_ambiguous() -> None:
    with pytest.raises(Retryable) as caught:
        connect(ConnectSettings(url="http://127.0.0.1:9")).request(CALL)

    assert caught.value.ambiguous


def test_an_answer_cut_short_is_retryable() -> None:
    assert isinstance(answered(Answer(whole=False)), Retryable)


def test_an_answer_that_drips_does_not_outlive_its_deadline() -> None:
    drip = Answer(chunks=(b"x",) * 200, pause=lambda: time.sleep(0.02))
    began = time.monotonic()
    error = answered(drip, Call(method="GET", path="/x", deadline_seconds=0.2))

    assert isinstance(error, Retryable)
    assert time.monotonic() - began < 1


def test_a_silent_server_does_not_outlive_its_deadline() -> None:
    gate = threading.Event()
    began = time.monotonic()
    error = answered(Answer(pause=lambda: gate.wait(1)), Call(method="GET", path="/x", deadline_seconds=0.2))
    gate.set()

    assert isinstance(error, Retryable)
    assert time.monotonic() - began < 1


def test_prepared_bytes_arrive_as_they_are_and_nothing_is_compressed() -> None:
    with ApiServer() as server:
        body = b'{"metadata":{"name":"n"},"kind":"Node","apiVersion":"v1"}'
        transport = connect(ConnectSettings(url=server.url, user_agent="gpuvitals/1"))
        transport.request(Call(method="POST", path="/api/v1/nodes", body=body))
        seen = server.requests.writes(resource="nodes")[0]
    with scripted(lambda method, target: Answer()) as script:
        connect(ConnectSettings(url=script.url)).request(CALL)

    assert (seen.body, seen.user_agent, seen.content_type) == (body, "gpuvitals/1", "application/json")
    assert "gzip" not in script.requests[0][2].get("Accept-Encoding", "")


def test_a_connection_is_used_again() -> None:
    with scripted(lambda method, target: Answer()) as script:
        transport = connect(ConnectSettings(url=script.url))
        for _ in range(3):
            transport.request(CALL)

    assert len(script.peers) == 1


def test_a_rotated_token_is_read_again(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n", encoding="ascii")
    with scripted(lambda method, target: Answer()) as script:
        access = replace(plain(script.url), token=AccountToken(token, seconds=0.0))
        transport = ApiTransport(access, "gpuvitals")
        transport.request(CALL)
        token.write_text("second\n", encoding="ascii")
        transport.request(CALL)
        for content in ("", "\u00e9"):
            token.write_text(content, encoding="utf-8")
            with pytest.raises(Retryable, match="token of the service account"):
                transport.request(CALL)
        token.unlink()
        with pytest.raises(Retryable, match="token of the service account"):
            transport.request(CALL)

    assert [headers["Authorization"].split()[1] for _, _, headers in script.requests] == ["first", "second"]


def test_a_token_is_not_read_for_each_call(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("first", encoding="ascii")
    token = AccountToken(path)
    assert token.header() == "Bearer first"
    path.unlink()
    assert token.header() == "Bearer first"


def test_missing_credentials_are_one_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    with pytest.raises(Permanent, match="kubernetes credentials: .KUBERNETES_SERVICE_HOST is not set"):
        connect(ConnectSettings())
    with pytest.raises(Permanent, match="^kubeconfig .*absent"):
        connect(ConnectSettings(kubeconfig=tmp_path / "absent"))


@pytest.mark.parametrize(
    ("missing", "named"), [("ca.crt", "ca.crt: "), ("token", "token of the service account")]
)
def test_a_pods_account_that_lacks_a_file_is_named(tmp_path: Path, missing: str, named: str) -> None:
    (tmp_path / "ca.crt").write_text(AUTHORITY, encoding="ascii")
    (tmp_path / "token").write_text("t", encoding="ascii")
    place = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    pool = pod_account(tmp_path, place).connections.pool()
    assert (pool.scheme, pool.host, pool.port) == ("https", "fd00::1", 443)

    (tmp_path / missing).unlink()
    with pytest.raises(Permanent, match=f"kubernetes credentials: .*{named}"):
        pod_account(tmp_path, place)


def test_the_certificates_of_a_server_that_gets_new_ones_are_read_again(tmp_path: Path) -> None:
    """Finding R18: a cluster's certificate authority is replaced while its pods run."""
    old, new = Pki(tmp_path / "old"), Pki(tmp_path / "new")
    trusted = tmp_path / "ca.crt"
    trusted.write_bytes(old.ca.read_bytes())
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = old.serving("server")
    tls.load_cert_chain(pair.certificate, pair.key)
    with scripted(lambda method, target: Answer(headers=(("Connection", "close"),)), tls) as script:
        connections = TrustedConnections(script.url, trusted, seconds=3600)
        token = plain(script.url).token
        transport = ApiTransport(Access(connections=connections, prefix="", token=token), "gpuvitals")
        transport.request(CALL)
        pair = new.serving("server")
        tls.load_cert_chain(pair.certificate, pair.key)
        with pytest.raises(Retryable, match="certificate verify failed"):
            transport.request(CALL)
        trusted.write_text("not a certificate", encoding="ascii")
        with pytest.raises(Retryable, match="certificate verify failed"):
            transport.request(CALL)
        trusted.write_bytes(new.ca.read_bytes())

        assert transport.request(CALL) == b"{}"
        transport.close()


def test_certificates_are_looked_at_now_and_then_and_kept_while_they_can_not_be_used(tmp_path: Path) -> None:
    """Finding R18."""
    trusted = tmp_path / "ca.crt"
    trusted.write_text(AUTHORITY, encoding="ascii")
    connections = TrustedConnections("https://127.0.0.1:1", trusted, seconds=0.0)
    first = connections.pool()
    for content in ("", "torn", f"# commentaire d\u00e9j\u00e0 vu\n{AUTHORITY[:40]}"):
        trusted.write_text(content, encoding="utf-8")
        assert connections.pool() is first
    trusted.unlink()
    assert connections.pool() is first
    trusted.write_text(f"# d\u00e9j\u00e0 vu\n{AUTHORITY}", encoding="utf-8")
    assert connections.pool() is not first


def test_a_kubeconfig_gives_server_and_token(tmp_path: Path) -> None:
    with scripted(lambda method, target: Answer()) as script:
        config = tmp_path / "config"
        config.write_text(
            f"""apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "{script.url}"}}}}]
users: [{{name: u, user: {{token: secret}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
current-context: x
""",
            encoding="utf-8",
        )
        connect(ConnectSettings(kubeconfig=config)).request(CALL)

    assert script.requests[0][2]["Authorization"] == "Bearer secret"
