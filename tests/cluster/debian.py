"""Debian packages that the cluster of the tests needs, installed where they are missing and where that is allowed."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence

INSTALL_SECONDS = 300.0


class PackageError(Exception):
    """A package is missing and can't be installed here; the text holds the command that installs it."""


def install(packages: Sequence[str], *, say: Callable[[str], None]) -> None:
    """Installs those of `packages` that are missing. Raises PackageError without root, without apt-get, or when it fails."""
    missing = [package for package in packages if not _installed(package)]
    if not missing:
        return
    names = " ".join(missing)
    command = f"apt-get install --no-install-recommends {names}"
    if shutil.which("apt-get") is None:
        raise PackageError(f"this machine lacks {names} and has no apt-get: install them by its own means")
    if os.geteuid() != 0:
        raise PackageError(
            f"this machine lacks {names} and only root may install them: run `{command}` first"
        )
    say(f"installing {names}")
    _apt("update", "-qq")
    _apt("install", "-y", "-qq", "--no-install-recommends", *missing)


def _installed(package: str) -> bool:
    if shutil.which("dpkg-query") is None:
        return False
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode == 0 and done.stdout.strip() == "installed"


def _apt(*arguments: str) -> None:
    # A second apt-get on the machine holds dpkg's lock for a while: wait for it rather than fail.
    command = ["apt-get", "-o", "DPkg::Lock::Timeout=120", *arguments]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise PackageError(f"`{' '.join(command)}` ended with {done.returncode}; its last lines:\n{tail}")
