"""The agent's image, assembled by the steps of deploy/image/Containerfile without a container engine.

The base is a minimal Debian by debootstrap instead of a registry's image. The lock, the environment and the trimming are
the same; the SBOM is left out. Base and image are kept in `.cache/cluster` and made again when their sources change.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from cluster import debian
from cluster.build import CACHE, exclusive
from cluster.images import Image

NAME = "gpuvitals.internal/agent:test"
ROOT = Path(__file__).resolve().parents[2]
SECONDS = 600.0
_SUITE = "bookworm"
_HOME = "opt/gpuvitals"
_SOURCES = ("deploy/image", "driver", "pyproject.toml", "requirements", "sim")
_PROGRAM = f"""#!/{_HOME}/bin/python
import sys
from gpuvitals.cli.main import main
sys.exit(main())
"""
_NEEDLESS = (
    "dev",
    "proc",
    "sys",
    "run",
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "var/cache/apt",
)


class ImageError(Exception):
    """A command failed while the image was assembled; the text has the command and its last lines."""


def agent_image(say: Callable[[str], None]) -> Image:
    """The image of the current tree. Needs root, and the network the first time. Raises ImageError."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with exclusive(CACHE / "agent-image.lock"):
        tree = CACHE / f"agent-image-{_digest()}"
        if not tree.is_dir():
            base = _base(say)
            for outdated in CACHE.glob("agent-image-*/"):
                shutil.rmtree(outdated)
            say("assembling the agent's image")
            with tempfile.TemporaryDirectory(dir=CACHE, prefix="partial-") as partial:
                _assemble(base, Path(partial) / "root")
                (Path(partial) / "root").replace(tree)
    return Image(name=NAME, command=["gpuvitals"], tree=tree, environment=_environment())


def _base(say: Callable[[str], None]) -> Path:
    base = CACHE / f"debian-{_SUITE}"
    if not base.is_dir():
        debian.install(("debootstrap",), say=say)
        say(f"debootstrap of {_SUITE} (a minute)")
        with tempfile.TemporaryDirectory(dir=CACHE, prefix="partial-") as partial:
            root = Path(partial) / "root"
            _run(["debootstrap", "--variant=minbase", "--include=python3", _SUITE, str(root)])
            for needless in _NEEDLESS:
                _empty(root / needless)
            root.replace(base)
    return base


def _assemble(base: Path, root: Path) -> None:
    """The stages of the Containerfile, in its order."""
    _run(["cp", "--archive", str(base), str(root)])
    _run(["chroot", str(root), "python3", "-m", "venv", "--without-pip", f"/{_HOME}"])
    (packages,) = (root / _HOME / "lib").glob("python3.*/site-packages")
    version = packages.parent.name.removeprefix("python")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--target", str(packages), "--python-version", version]
    locked = [
        "--require-hashes",
        "--only-binary",
        ":all:",
        "--requirement",
        str(ROOT / "requirements/agent.txt"),
    ]
    _run([*pip, *locked])
    _run([*pip, "--upgrade", "--no-deps", "--no-index", "--no-build-isolation", str(ROOT)])
    shutil.rmtree(packages / "bin", ignore_errors=True)
    # The tests' agents read scripted GPUs, so their image has the simulation too. The release image has not.
    shutil.copytree(ROOT / "sim" / "gpuvitals_sim", packages / "gpuvitals_sim")
    program = root / _HOME / "bin" / "gpuvitals"
    program.write_text(_PROGRAM, encoding="utf-8")
    program.chmod(0o755)
    shutil.copy(ROOT / "deploy/image/nvml_links.py", root / "nvml_links.py")
    _run(["chroot", str(root), f"/{_HOME}/bin/python", "/nvml_links.py"])
    (root / "nvml_links.py").unlink()
    _run(["chroot", str(root), f"/{_HOME}/bin/python", "-m", "compileall", "-q", f"/{_HOME}"])
    _run(["chroot", str(root), *_trimming()])


def _containerfile() -> str:
    return (ROOT / "deploy/image/Containerfile").read_text(encoding="utf-8")


def _trimming() -> list[str]:
    """The command of the stage that leaves no shell."""
    (command,) = re.findall(r"^RUN (\[.*\])$", _containerfile(), re.MULTILINE)
    words: list[str] = json.loads(command)
    return words


def _environment() -> list[str]:
    """The variables of the last stage."""
    block = re.search(r"^ENV ((?:.*\\\n)*.*)$", _containerfile().rpartition("\nFROM ")[2], re.MULTILINE)
    if block is None:
        raise ImageError("the last stage of the Containerfile has no ENV")
    return block.group(1).replace("\\\n", " ").split()


def _digest() -> str:
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for source in _SOURCES:
        top = ROOT / source
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and path.suffix != ".pyc":
                digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _empty(folder: Path) -> None:
    if folder.is_dir():
        for each in folder.iterdir():
            shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode != 0:
        last = "\n".join(done.stdout.strip().splitlines()[-12:])
        raise ImageError(f"`{' '.join(command)}` ended with {done.returncode}; its last lines:\n{last}")
