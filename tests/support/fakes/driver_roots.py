"""Roots of installed drivers as platforms lay them out, made of small files. docs/guides/platforms.md has the sources.

A root is the whole node's, as the agent sees it below its driver root. A library is an ELF header and nothing else; a
device node is a regular file, so searches for nodes must be configured to accept one.
"""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

VERSION = "595.45.04"
MULTIARCH = "aarch64-linux-gnu" if platform.machine() == "aarch64" else "x86_64-linux-gnu"
STEMS = ("libcuda", "libnvidia-ml")
NODES = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia0")


def elf(machine: str = platform.machine(), *, bits: int = 64) -> bytes:
    """The header of a shared library."""
    number = {"x86_64": 62, "aarch64": 183, "i386": 3}[machine]
    ident = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1, 1]) + bytes(9)
    return ident + (3).to_bytes(2, "little") + number.to_bytes(2, "little") + bytes(44)


def put(path: Path, content: bytes = b"") -> Path:
    """A file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def link(path: Path, target: str) -> None:
    """A link, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def libraries(folder: Path, version: str = VERSION, *, sonames: bool = True) -> None:
    """Both libraries that are required, and the links that their installer makes."""
    for stem in STEMS:
        put(folder / f"{stem}.so.{version}", elf())
        if sonames:
            link(folder / f"{stem}.so.1", f"{stem}.so.{version}")


def nodes(folder: Path, names: tuple[str, ...] = NODES) -> None:
    """Device nodes in `dev/` of a folder."""
    for name in names:
        put(folder / "dev" / name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A platform. `libraries` and `nodes` are the folders, below the root, that the driver's files are to come from."""

    name: str
    make: Callable[[Path], None]
    libraries: str
    nodes: str = ""
    program: str = ""


def _operator(root: Path) -> None:
    libraries(root / "run/nvidia/driver/usr/lib" / MULTIARCH)
    put(root / "run/nvidia/driver/usr/bin/nvidia-smi")
    nodes(root / "run/nvidia/driver")
    (root / "dev").mkdir()


def _operator_and_host(root: Path) -> None:
    _operator(root)
    nodes(root)


def _operator_on_debian(root: Path) -> None:
    """A driver container whose absolute links are meant from its own root."""
    _debian_branch(root / "run/nvidia/driver", "current")
    nodes(root / "run/nvidia/driver")


def _debian_branch(root: Path, branch: str) -> None:
    folder = root / "usr/lib" / MULTIARCH
    libraries(folder / "nvidia" / branch)
    for stem in STEMS:
        name = f"{stem}.so.1"
        link(folder / name, f"/etc/alternatives/nvidia--{name}-{MULTIARCH}")
        link(
            root / f"etc/alternatives/nvidia--{name}-{MULTIARCH}",
            f"/usr/lib/{MULTIARCH}/nvidia/{branch}/{name}",
        )
    put(root / "usr/lib/nvidia" / branch / "nvidia-smi")
    link(root / "usr/bin/nvidia-smi", "/etc/alternatives/nvidia--nvidia-smi")
    link(root / "etc/alternatives/nvidia--nvidia-smi", f"/usr/lib/nvidia/{branch}/nvidia-smi")
    link(root / "lib", "usr/lib")


def _debian(root: Path) -> None:
    _debian_branch(root, "current")
    nodes(root)


def _debian_tesla(root: Path) -> None:
    _debian_branch(root, "tesla-535")
    nodes(root)


def _branches_without_links(root: Path) -> None:
    libraries(root / "usr/lib" / MULTIARCH / "nvidia/tesla-470", "470.256.02")
    libraries(root / "usr/lib" / MULTIARCH / "nvidia/current")
    nodes(root)


def _usual(below: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        libraries(root / below)
        put(root / "usr/bin/nvidia-smi")
        nodes(root)

    return make


def _rhel(root: Path) -> None:
    """With the 32-bit libraries in `usr/lib`, which is `lib` too."""
    _usual("usr/lib64")(root)
    link(root / "lib64", "usr/lib64")
    link(root / "lib", "usr/lib")
    for stem in STEMS:
        put(root / f"usr/lib/{stem}.so.{VERSION}", elf("i386", bits=32))
        link(root / f"usr/lib/{stem}.so.1", f"{stem}.so.{VERSION}")


def _gke(root: Path) -> None:
    libraries(root / "home/kubernetes/bin/nvidia/lib64")
    put(root / "home/kubernetes/bin/nvidia/bin/nvidia-smi")
    nodes(root)


def _gke_ubuntu(root: Path) -> None:
    libraries(root / "opt/nvidia/lib64")
    put(root / "opt/nvidia/bin/nvidia-smi")
    nodes(root)


def _talos(below: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        libraries(root / below)
        put(root / "usr/local/bin/nvidia-smi")
        nodes(root)

    return make


def _bottlerocket_old(root: Path) -> None:
    sysroot = "x86_64-bottlerocket-linux-gnu/sys-root"
    libraries(root / sysroot / "usr/lib/nvidia/tesla")
    put(root / sysroot / "usr/libexec/nvidia/tesla/bin/nvidia-smi")
    link(root / "usr", f"{sysroot}/usr")
    nodes(root)


def _bottlerocket_new(root: Path) -> None:
    """With links at the old path."""
    sysroot = root / "x86_64-bottlerocket-linux-gnu/sys-root"
    libraries(sysroot / "usr/lib")
    for stem in STEMS:
        for name in (f"{stem}.so.1", f"{stem}.so.{VERSION}"):
            link(sysroot / "usr/lib/nvidia/tesla" / name, f"../../{name}")
    put(sysroot / "usr/bin/nvidia-smi")
    link(root / "usr", "x86_64-bottlerocket-linux-gnu/sys-root/usr")
    nodes(root)


def _flatcar(root: Path) -> None:
    made = root / f"opt/nvidia/{VERSION}/6.12.1-flatcar"
    libraries(made / "usr/lib64")
    put(made / "usr/bin/nvidia-smi")
    link(root / "opt/nvidia/current", f"/opt/nvidia/{VERSION}/6.12.1-flatcar")
    nodes(root)


LAYOUTS = (
    Layout(
        name="gpu-operator",
        make=_operator,
        libraries=f"run/nvidia/driver/usr/lib/{MULTIARCH}",
        nodes="run/nvidia/driver",
        program="run/nvidia/driver/usr/bin",
    ),
    Layout(
        name="gpu-operator-and-nodes-on-the-host",
        make=_operator_and_host,
        libraries=f"run/nvidia/driver/usr/lib/{MULTIARCH}",
        nodes="run/nvidia/driver",
        program="run/nvidia/driver/usr/bin",
    ),
    Layout(
        name="gpu-operator-with-absolute-links",
        make=_operator_on_debian,
        libraries=f"run/nvidia/driver/usr/lib/{MULTIARCH}/nvidia/current",
        nodes="run/nvidia/driver",
        program="run/nvidia/driver/usr/lib/nvidia/current",
    ),
    Layout(
        name="debian",
        make=_debian,
        libraries=f"usr/lib/{MULTIARCH}/nvidia/current",
        program="usr/lib/nvidia/current",
    ),
    Layout(
        name="debian-tesla",
        make=_debian_tesla,
        libraries=f"usr/lib/{MULTIARCH}/nvidia/tesla-535",
        program="usr/lib/nvidia/tesla-535",
    ),
    Layout(
        name="branches-without-links",
        make=_branches_without_links,
        libraries=f"usr/lib/{MULTIARCH}/nvidia/current",
    ),
    Layout(
        name="ubuntu",
        make=_usual(f"usr/lib/{MULTIARCH}"),
        libraries=f"usr/lib/{MULTIARCH}",
        program="usr/bin",
    ),
    Layout(name="rhel", make=_rhel, libraries="usr/lib64", program="usr/bin"),
    Layout(name="only-lib", make=_usual("lib"), libraries="lib", program="usr/bin"),
    Layout(
        name="gke",
        make=_gke,
        libraries="home/kubernetes/bin/nvidia/lib64",
        program="home/kubernetes/bin/nvidia/bin",
    ),
    Layout(name="gke-ubuntu", make=_gke_ubuntu, libraries="opt/nvidia/lib64", program="opt/nvidia/bin"),
    Layout(
        name="talos-1.8",
        make=_talos("usr/local/glibc/lib"),
        libraries="usr/local/glibc/lib",
        program="usr/local/bin",
    ),
    Layout(
        name="talos-1.12",
        make=_talos("usr/local/glibc/usr/lib"),
        libraries="usr/local/glibc/usr/lib",
        program="usr/local/bin",
    ),
    Layout(
        name="talos-1.13", make=_talos("usr/local/lib"), libraries="usr/local/lib", program="usr/local/bin"
    ),
    Layout(
        name="bottlerocket-tesla",
        make=_bottlerocket_old,
        libraries="x86_64-bottlerocket-linux-gnu/sys-root/usr/lib/nvidia/tesla",
        program="x86_64-bottlerocket-linux-gnu/sys-root/usr/libexec/nvidia/tesla/bin",
    ),
    Layout(
        name="bottlerocket",
        make=_bottlerocket_new,
        libraries="x86_64-bottlerocket-linux-gnu/sys-root/usr/lib",
        program="x86_64-bottlerocket-linux-gnu/sys-root/usr/bin",
    ),
    Layout(
        name="flatcar",
        make=_flatcar,
        libraries=f"opt/nvidia/{VERSION}/6.12.1-flatcar/usr/lib64",
        program=f"opt/nvidia/{VERSION}/6.12.1-flatcar/usr/bin",
    ),
)
