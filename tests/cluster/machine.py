"""The node of the cluster as a machine of its own: programs on it see their files at the usual paths, the host sees none.

The node is a private mount namespace. Over /etc, /opt, /run, /var/lib and /var/log lies an overlay whose changes go to the
workspace; /var/lib/kubelet and /var/log/pods are folders of the workspace. So a kubelet's, a runtime's and an agent's
default paths are real there, two clusters don't meet, and every mount goes away with the last process of the node. Pods
live below a control group of the node's own, which `release` empties: it is also what is called after a crash.
"""

import contextlib
import json
import os
import shlex
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from cluster import sysctls
from support.realkube.workspace import Workspace

PREFIX = "gpuvitals-cluster-"
START_SECONDS = 10.0
STOP_SECONDS = 20.0
_OVERLAID = ("/etc", "/opt", "/run", "/var/lib", "/var/log")
_RECORD = "machine.json"


class MachineError(Exception):
    """The node's namespace or control groups can't be made or unmade; the text says what is in the way."""


def require_root() -> None:
    """Raises MachineError for any other user."""
    if os.geteuid() != 0:
        raise MachineError("a real node needs root: it mounts file systems and runs containers")


class Machine:
    """The node's namespace and control group, from `start` to the workspace's end."""

    def __init__(self, workspace: Workspace, *, node: str) -> None:
        self._workspace, self._node = workspace, node
        self.cgroup = f"/{workspace.folder.name}"
        self.kubelet_root = workspace.folder / "kubelet"
        self.pod_logs = workspace.folder / "pod-logs"

    def start(self) -> None:
        """Makes the namespace. Raises MachineError."""
        folder = self._workspace.folder
        sysctls.remember(folder.parent / f"{PREFIX}sysctls.json")
        (folder / _RECORD).write_text(json.dumps({"cgroup": self.cgroup}), encoding="utf-8")
        for hierarchy in hierarchies():
            _make_cgroup(hierarchy, self.cgroup)
        (folder / "hosts").write_text(f"127.0.0.1 localhost {self._node}\n", encoding="utf-8")
        (folder / "enter.sh").write_text(self._script(), encoding="utf-8")
        self._holder = self._workspace.start(
            "machine", ["unshare", "--mount", "--propagation", "private", "sh", str(folder / "enter.sh")]
        )
        deadline = time.monotonic() + START_SECONDS
        while not (folder / "entered").exists():
            if self._holder.poll() is not None or time.monotonic() > deadline:
                said = self._workspace.log("machine").read_text(encoding="utf-8", errors="replace")
                raise MachineError(f"the node's mount namespace was not made: {said[-1500:]}")
            time.sleep(0.02)

    def enter(self, command: Sequence[object]) -> list[str]:
        """Returns the command that runs `command` on the node; its process is the command's own."""
        return [
            "nsenter",
            f"--mount=/proc/{self._holder.pid}/ns/mnt",
            "--",
            *(str(part) for part in command),
        ]

    @property
    def root(self) -> Path:
        """The node's files as the host reaches them, its mounts included."""
        return Path(f"/proc/{self._holder.pid}/root")

    def _script(self) -> str:
        folder = self._workspace.folder
        lines = ["set -eu"]
        for place in _OVERLAID:
            upper, work = folder / "changes" / place[1:].replace("/", "-"), folder / "work" / place[1:]
            options = f"lowerdir={place},upperdir={upper},workdir={work}"
            lines.append(f"mkdir -p {shlex.quote(str(upper))} {shlex.quote(str(work))}")
            lines.append(f"mount -t overlay overlay -o {shlex.quote(options)} {place}")
        for source, target in (
            (self.kubelet_root, "/var/lib/kubelet"),
            (self.pod_logs, "/var/log/pods"),
        ):
            lines.append(f"mkdir -p {shlex.quote(str(source))} {target}")
            lines.append(f"mount --bind {shlex.quote(str(source))} {target}")
        # In a container these two are mounts, which an overlay hides: give the node its own.
        lines.append("touch /etc/hosts /etc/resolv.conf")
        lines.append(f"mount --bind {shlex.quote(str(folder / 'hosts'))} /etc/hosts")
        lines += ["mount --make-rshared /", f"touch {shlex.quote(str(folder / 'entered'))}"]
        return "\n".join([*lines, "exec sleep infinity", ""])


def release(folder: Path) -> None:
    """Ends what still runs on the node, containers too, and removes its control group; the last one restores the sysctls.

    Called at a workspace's end, and for one whose owner is found dead. Raises MachineError.
    """
    record = folder / _RECORD
    if record.exists():
        _end_node(folder, record)
    if is_last(folder):
        sysctls.restore(folder.parent / f"{PREFIX}sysctls.json")


def is_last(folder: Path) -> bool:
    """Returns whether no other cluster has a folder beside this one. Called while the workspace is being released."""
    return not any(other != folder for other in folder.parent.glob(f"{PREFIX}*/"))


def _end_node(folder: Path, record: Path) -> None:
    name = str(json.loads(record.read_text(encoding="utf-8"))["cgroup"])
    groups = [hierarchy / name.lstrip("/") for hierarchy in hierarchies()]
    deadline = time.monotonic() + STOP_SECONDS
    while alive := {*_members(groups), *_inhabitants(folder)}:
        if time.monotonic() > deadline:
            raise MachineError(f"processes {sorted(alive)} of the node {folder.name} don't end")
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    for group in groups:
        _remove_cgroup(group, deadline)
    _check_unmounted(folder)


def hierarchies() -> list[Path]:
    """Returns the mount points of the machine's control group hierarchies, of both versions."""
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    return [Path(line.split()[1]) for line in lines if line.split()[2] in ("cgroup", "cgroup2")]


def _make_cgroup(hierarchy: Path, name: str) -> None:
    group = hierarchy / name.lstrip("/")
    group.mkdir(exist_ok=True)
    for setting in ("cpuset.cpus", "cpuset.mems"):
        # Version 1 gives a new group no processors, and without them no process may enter it.
        if hierarchy.joinpath(setting).exists() and not (hierarchy / "cgroup.controllers").exists():
            (group / setting).write_text((hierarchy / setting).read_text())


def _members(groups: Sequence[Path]) -> Iterator[int]:
    for group in groups:
        for listing in group.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):  # the group went away meanwhile
                yield from (int(line) for line in listing.read_text().split())


def _inhabitants(folder: Path) -> Iterator[int]:
    """Processes in the node's mount namespace, told by its overlays: shims outlive the runtime and name no folder."""
    mark = f"upperdir={folder}/changes/"
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                if mark in (entry / "mountinfo").read_text(encoding="utf-8", errors="replace"):
                    yield int(entry.name)


def _remove_cgroup(group: Path, deadline: float) -> None:
    if not group.is_dir():
        return
    for inner in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
        _rmdir(inner, deadline)
    _rmdir(group, deadline)


def _rmdir(group: Path, deadline: float) -> None:
    """A killed process leaves its group a moment after its end."""
    while True:
        try:
            return group.rmdir()
        except FileNotFoundError:
            return None
        except OSError as error:
            if time.monotonic() > deadline:
                raise MachineError(f"control group {group} can't be removed: {error}") from error
            time.sleep(0.05)


def _check_unmounted(folder: Path) -> None:
    """Nothing is mounted below the folder for the host; removing it else would remove what is mounted."""
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    found = [line.split()[1] for line in mounts if line.split()[1].startswith(f"{folder}/")]
    if found:
        raise MachineError(f"{found[0]} is still mounted: unmount it, then remove {folder}")
