"""Certificates of a throw-away control plane, made by the openssl command: one CA, serving and client pairs.

Keys are elliptic, since an RSA key costs ten times as long. Everything lies in the folder that the caller gives and
is valid for two days.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

_CONFIG = """
[req]
distinguished_name = subject
prompt = no
[subject]
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
[serving]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost,IP:127.0.0.1
[client]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = clientAuth
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """The two PEM files of one identity; for a signing pair `certificate` is the public key."""

    certificate: Path
    key: Path


class Pki:
    """A certificate authority in `folder`; `ca` is its certificate. Raises RuntimeError with openssl's own words."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._config = folder / "openssl.cnf"
        self._config.write_text(_CONFIG, encoding="utf-8")
        self._authority = self._issue("ca", subject="/CN=gpuvitals-tests-ca", section="ca")
        self.ca = self._authority.certificate

    def serving(self, name: str) -> KeyPair:
        """Returns a server's pair for localhost and 127.0.0.1."""
        return self._issue(name, subject=f"/CN={name}", section="serving")

    def client(self, user: str, *, group: str) -> KeyPair:
        """Returns a client's pair that the API server reads as this user in this group."""
        return self._issue(user.replace(":", "-"), subject=f"/O={group}/CN={user}", section="client")

    def signing(self, name: str) -> KeyPair:
        """Returns a key pair without a certificate, as service account tokens are signed with."""
        pair = KeyPair(certificate=self._folder / f"{name}.pub", key=self._folder / f"{name}.key")
        _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(pair.key))
        _openssl("pkey", "-in", str(pair.key), "-pubout", "-out", str(pair.certificate))
        return pair

    def _issue(self, name: str, *, subject: str, section: str) -> KeyPair:
        pair = KeyPair(certificate=self._folder / f"{name}.crt", key=self._folder / f"{name}.key")
        signer: list[str] = []
        if section != "ca":
            signer = ["-CA", str(self._authority.certificate), "-CAkey", str(self._authority.key)]
        _openssl(
            *(
                "req",
                "-x509",
                "-new",
                "-nodes",
                "-days",
                "2",
                "-config",
                str(self._config),
                "-extensions",
                section,
            ),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-subj", subject),
            *("-keyout", str(pair.key), "-out", str(pair.certificate), *signer),
        )
        return pair


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"openssl {arguments[0]} ended with {done.returncode}: {done.stderr.strip()}")
