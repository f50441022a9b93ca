"""Builds the programs of the tests' control plane from pinned Go modules into a cache folder that git ignores.

One folder beside this file is one Go module, and its go.mod and go.sum pin all that is built from it. The outcome
goes to `.cache/cluster/<module>-<hash of the module's files>/`, so a second run does nothing and a changed pin builds
anew. Tests never build: they ask `locate`, which says what is missing. Run it as `make cluster`; with `CLUSTER=1.36`
that release is built too.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster import debian

MODULES = Path(__file__).resolve().parent
CACHE = MODULES.parent.parent / ".cache" / "cluster"
BUILD_SECONDS = 45 * 60
"""Deadline of one program: five times the cold build of kube-apiserver on two idle cores."""


class BuildError(Exception):
    """A program can't be built or isn't there; the text names it and the next step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One program: its file name, the folder of its Go module, its package and the module that gives its version."""

    name: str
    module: str
    package: str
    version_of: str = ""
    tags: str = ""
    libraries: tuple[str, ...] = ()
    """Debian packages that cgo needs; a program without them is linked statically."""


_RUNTIME = "github.com/containerd/containerd/v2/cmd"
_NETWORK = "github.com/containernetworking/plugins/plugins"
_NODE = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")


def _kubernetes(module: str, *names: str) -> tuple[Program, ...]:
    main, owner = "k8s.io/kubernetes/cmd", "k8s.io/kubernetes"
    return tuple(
        Program(name=name, module=module, package=f"{main}/{name}", version_of=owner) for name in names
    )


PROGRAMS = (
    Program(name="etcd", module="etcd", package="go.etcd.io/etcd/server/v3"),
    Program(name="helm", module="helm", package="helm.sh/helm/v4/cmd/helm"),
    *_kubernetes("kubernetes-1.37", *_NODE, "kubectl"),
    Program(name="descriptors", module="kubernetes-1.37", package="./descriptors"),
    Program(name="containerd", module="containerd", package=f"{_RUNTIME}/containerd"),
    Program(
        name="containerd-shim-runc-v2", module="containerd", package=f"{_RUNTIME}/containerd-shim-runc-v2"
    ),
    Program(name="ctr", module="containerd", package=f"{_RUNTIME}/ctr"),
    # Without the tag runc refuses every container that has a seccomp profile.
    Program(
        name="runc",
        module="runc",
        package="github.com/opencontainers/runc",
        tags="seccomp",
        libraries=("libseccomp-dev", "pkg-config", "gcc", "libc6-dev"),
    ),
    Program(name="ptp", module="cni", package=f"{_NETWORK}/main/ptp"),
    Program(name="loopback", module="cni", package=f"{_NETWORK}/main/loopback"),
    Program(name="host-local", module="cni", package=f"{_NETWORK}/ipam/host-local"),
    *_kubernetes("kubernetes-1.34", *_NODE),
    *_kubernetes("kubernetes-1.36", *_NODE),
)
ON_REQUEST = frozenset({"kubernetes-1.36"})
"""Modules that are built only where they are named: no test of the usual run needs them."""


def locate(module: str, name: str) -> Path:
    """Returns the built program `name` of the module folder `module`; raises BuildError when it isn't built."""
    path = _output(_program(module, name))
    if not path.is_file():
        asked = f" CLUSTER={module.rpartition('-')[2]}" if module in ON_REQUEST else ""
        raise BuildError(
            f"{name} of {module} is not built: run `make cluster{asked}` (it needs Go), then run the tests again"
        )
    return path


def build(programs: Sequence[Program], *, say: Callable[[str], None]) -> None:
    """Builds what the cache lacks and tells `say` each program and its seconds. Safe beside a second builder."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with exclusive(CACHE / "lock"):
        for program in programs:
            if _output(program).is_file():
                say(f"{program.module}/{program.name}: already built")
            else:
                _build_one(program, say)


def check_toolchain(module: str) -> Path:
    """Returns the go command; raises BuildError where there is none or where it is older than the module asks."""
    found = shutil.which("go")
    wanted = _go_line(module)
    if found is None:
        raise BuildError(
            f"no go command in PATH: tests/cluster/{module} needs Go {wanted} or newer; install it first"
        )
    # GOTOOLCHAIN=local: an old Go must say so here, and not fetch another toolchain behind the user's back.
    answer = subprocess.run(
        [found, "env", "GOVERSION"],
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    actual = answer.stdout.strip().removeprefix("go")
    if answer.returncode != 0 or _numbers(actual) < _numbers(wanted):
        raise BuildError(
            f"go {actual or 'of unknown version'} at {found} is too old: {module} needs {wanted} or newer"
        )
    return Path(found)


def pinned_version(module: str, dependency: str) -> str:
    """Returns the version, like v1.37.2, that the module folder's go.mod requires of `dependency`."""
    text = (MODULES / module / "go.mod").read_text(encoding="utf-8")
    match = re.search(rf"^(?:require)?\s*{re.escape(dependency)} (v\S+)", text, re.MULTILINE)
    if match is None:
        raise BuildError(f"{module}/go.mod requires no {dependency}: add it, then build again")
    return match.group(1)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: builds what is named, or all that the tests need. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Builds the cluster of the tests from Go modules.")
    known = sorted({program.module for program in PROGRAMS})
    parser.add_argument(
        "target", nargs="*", help=f"module, or module/program; modules are {', '.join(known)}"
    )
    parser.add_argument(
        "--with", dest="further", default="", help=f"besides: one of {', '.join(sorted(ON_REQUEST))}"
    )
    parser.add_argument("--quiet", action="store_true", help="say nothing of what is built already")
    given = parser.parse_args(arguments)
    targets = given.target or [module for module in known if module not in ON_REQUEST]
    targets += [given.further] if given.further else []
    names = {name for program in PROGRAMS for name in (program.module, f"{program.module}/{program.name}")}
    unknown = sorted(set(targets) - names)
    if unknown:
        parser.error(f"unknown module {unknown[0]!r}: choose from {', '.join(known)}")
    wanted = [p for p in PROGRAMS if {p.module, f"{p.module}/{p.name}"} & set(targets)]
    if given.quiet:
        wanted = [program for program in wanted if not _output(program).is_file()]
    try:
        build(wanted, say=_say)
    except (BuildError, debian.PackageError) as error:
        _say(f"error: {error}")
        return 1
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _program(module: str, name: str) -> Program:
    for program in PROGRAMS:
        if (program.module, program.name) == (module, name):
            return program
    raise BuildError(f"no program {name} of {module} is declared in tests/cluster/build.py")


def _build_one(program: Program, say: Callable[[str], None]) -> None:
    go = check_toolchain(program.module)
    debian.install(program.libraries, say=say)
    output = _output(program)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_suffix(".partial")
    say(f"{program.module}/{program.name}: building {program.package} (minutes when Go's own cache is cold)")
    started = time.monotonic()
    command = [
        str(go),
        "build",
        "-trimpath",
        f"-tags={program.tags}",
        f"-ldflags={_link_flags(program)}",
        "-o",
        str(partial),
        program.package,
    ]
    try:
        done = subprocess.run(
            command,
            cwd=MODULES / program.module,
            env=_environment() | {"CGO_ENABLED": "1" if program.libraries else "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(
            f"{program.name} took more than {BUILD_SECONDS} s to build: nothing was kept"
        ) from error
    if done.returncode != 0:
        last = "\n".join(done.stdout.strip().splitlines()[-15:])
        raise BuildError(
            f"go build of {program.package} ended with {done.returncode}; its last lines:\n{last}"
        )
    partial.replace(output)
    say(f"{program.module}/{program.name}: built in {time.monotonic() - started:.0f} s -> {output}")


def _link_flags(program: Program) -> str:
    """The linker's flags. Without a version an API server calls itself v0.0.0 and its feature gates go wrong."""
    flags = ["-s", "-w"]
    if program.version_of:
        version = pinned_version(program.module, program.version_of)
        major, minor = version.removeprefix("v").split(".")[:2]
        base = "k8s.io/component-base/version"
        flags += [
            "-X",
            f"{base}.gitVersion={version}",
            "-X",
            f"{base}.gitMajor={major}",
            "-X",
            f"{base}.gitMinor={minor}",
        ]
        flags += ["-X", f"k8s.io/client-go/pkg/version.gitVersion={version}"]
    return " ".join(flags)


def _output(program: Program) -> Path:
    """The program's path in the cache; the folder's name changes with the module's pins, sources and flags."""
    folder = MODULES / program.module
    digest = hashlib.sha256()
    for flags in sorted(
        {_link_flags(each) + each.tags for each in PROGRAMS if each.module == program.module}
    ):
        digest.update(flags.encode())
    for path in sorted([folder / "go.mod", folder / "go.sum", *folder.rglob("*.go")]):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(path.read_bytes())
    return CACHE / f"{program.module}-{digest.hexdigest()[:12]}" / program.name


def _environment() -> dict[str, str]:
    return {**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOWORK": "off"}


def _go_line(module: str) -> str:
    match = re.search(r"^go (\S+)", (MODULES / module / "go.mod").read_text(encoding="utf-8"), re.MULTILINE)
    if match is None:
        raise BuildError(f"{module}/go.mod has no go line: the toolchain can't be checked")
    return match.group(1)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Holds the lock file: a second builder waits, because both would compile the same packages twice."""
    with path.open("w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another build runs: waiting for its end")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main())
