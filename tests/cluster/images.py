"""Container images written without a container engine: an OCI layout in one tar, with one uncompressed layer."""

import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PAUSE = "gpuvitals.internal/pause:1"
BUSYBOX = "gpuvitals.internal/busybox:1"
_PAUSE_SOURCE = """
#include <signal.h>
#include <unistd.h>
static void stop(int number) { (void)number; _exit(0); }
int main(void) { signal(SIGTERM, stop); signal(SIGINT, stop); for (;;) pause(); }
"""
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What an image holds: executables by path, symbolic links, a whole folder, and the command that it runs."""

    name: str
    command: Sequence[str]
    files: Mapping[str, bytes] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    tree: Path | None = None
    environment: Sequence[str] = ("PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",)


def pause(folder: Path) -> Image:
    """Returns the sandbox image: a static program that waits for its end, compiled into `folder`."""
    source, program = folder / "pause.c", folder / "pause"
    source.write_text(_PAUSE_SOURCE, encoding="utf-8")
    command = ["cc", "-Os", "-static", "-o", str(program), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"the pause program doesn't compile: {done.stderr.strip()[-800:]}")
    return Image(name=PAUSE, command=["/pause"], files={"pause": program.read_bytes()})


def busybox(program: Path = Path("/bin/busybox")) -> Image:
    """Returns the workload image: Debian's static busybox, with a shell and the programs that tests use."""
    names = (
        "sh",
        "cat",
        "ls",
        "sleep",
        "echo",
        "test",
        "stat",
        "env",
        "touch",
        "date",
        "wget",
        "id",
        "mount",
    )
    links = {f"bin/{name}": "busybox" for name in names}
    return Image(name=BUSYBOX, command=["/bin/sh"], files={"bin/busybox": program.read_bytes()}, links=links)


def write(image: Image, path: Path) -> Path:
    """Writes the image as an OCI layout tar; returns `path`."""
    layer = path.with_suffix(".layer")
    with tarfile.open(layer, "w") as archive:
        _fill(archive, image)
    with layer.open("rb") as stream:
        digest = f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": list(image.command), "Env": list(image.environment)},
            "rootfs": {"type": "layers", "diff_ids": [digest]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, config),
            "layers": [{"mediaType": _LAYER, "digest": digest, "size": layer.stat().st_size}],
        }
    )
    named = {"io.containerd.image.name": image.name, "org.opencontainers.image.ref.name": image.name}
    index = {"schemaVersion": 2, "manifests": [{**_descriptor(_MANIFEST, manifest), "annotations": named}]}
    with tarfile.open(path, "w") as archive:
        _add(archive, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))
        _add(archive, "index.json", _json(index))
        for blob in (config, manifest):
            _add(archive, _blob(_digest(blob)), blob)
        archive.add(layer, arcname=_blob(digest))
    layer.unlink()
    return path


def _fill(archive: tarfile.TarFile, image: Image) -> None:
    """What is written here has no times and no owners, so that it is the same each time."""
    if image.tree is not None:
        archive.add(image.tree, arcname=".", filter=_plain)
    folders = {parent for name in (*image.files, *image.links) for parent in Path(name).parents}
    for folder in sorted(str(folder) for folder in folders | {Path("tmp")} if str(folder) != "."):
        entry = tarfile.TarInfo(folder)
        entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
        archive.addfile(entry)
    for name, content in sorted(image.files.items()):
        _add(archive, name, content, mode=0o755)
    for name, target in sorted(image.links.items()):
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        archive.addfile(entry)


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """A tree's times stay: they say whether compiled Python is up to date."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def _add(archive: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    archive.addfile(entry, io.BytesIO(content))


def _descriptor(kind: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": kind, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
