"""Checks of the node's files: the kernel log, the kubelet's folders, the CDI folder."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from gpuvitals.bootstrap import NodeOptions
from gpuvitals.doctor.check import Finding, fail, ok, warn
from gpuvitals.inventory.naming import Naming
from gpuvitals.kubeletplugin.sockets import SocketError, socket_paths
from gpuvitals.model.ids import BootId
from gpuvitals.model.signal import MonitorReport, MonitorState, Signal
from gpuvitals.signals.clock import SystemClock
from gpuvitals.signals.kmsg.source import KmsgSettings, KmsgSource

_LOG_SECONDS = 10.0
_STEP_SECONDS = 0.02
_CDI_FOLDERS = (Path("/etc/cdi"), Path("/var/run/cdi"), Path("/run/cdi"))
"""The CDI folders that container runtimes read by default. Source: cncf-tags/container-device-interface pkg/cdi/spec-dirs.go."""


def kernel_log(options: NodeOptions) -> Iterator[Finding]:
    """Whether the agent can read the kernel log, and how far its time stamps lag CLOCK_BOOTTIME."""
    name, sink = "kernel-log", _Sink()
    source = KmsgSource(KmsgSettings(path=options.kernel_log, boot_id=BootId("")), SystemClock(), sink)
    source.start()
    try:
        _read_to_the_end(source)
        lag, counters, is_whole = source.lag_seconds, source.counters, source.has_read_all
    finally:
        source.stop(1.0)
    if sink.report is None or sink.report.state is not MonitorState.WATCHING:
        reason = f"no answer within {_LOG_SECONDS:g} s" if sink.report is None else sink.report.detail
        yield fail(
            name,
            f"{options.kernel_log}: {reason}",
            "run as root in a privileged pod with the node's /dev, and allow the syslog capability",
        )
    elif not is_whole:
        yield warn(
            name, f"{options.kernel_log} was not read to its end within {_LOG_SECONDS:g} s", "try again"
        )
    elif not counters.records:
        yield warn(
            name,
            f"{options.kernel_log} holds no record",
            "check that it is the node's own log: faults from the log would be missed",
        )
    else:
        yield ok(
            name,
            f"{options.kernel_log} has {counters.records} records, {counters.signals} about GPUs; its time stamps lag "
            f"CLOCK_BOOTTIME by at most {lag:.1f} s",
            records=counters.records,
            lag_seconds=round(lag, 3),
        )


def kubelet_folders(options: NodeOptions, naming: Naming) -> Iterator[Finding]:
    """Whether the plugin's folder and the registration folder are writable, and the socket paths short enough."""
    plugins, registry = options.state_directory.parent, options.registry_directory
    advice = "set the chart's kubeletRoot to the kubelet's root folder, and mount it read-write"
    for name, folder in (("kubelet-plugins", plugins), ("kubelet-registry", registry)):
        trouble = _unusable(folder)
        if trouble:
            yield fail(name, f"{folder}: {trouble}", advice)
        else:
            yield ok(name, f"{folder} is writable{_others(folder, naming)}")
    try:
        paths = socket_paths(naming.driver, options.pod_uid, options.state_directory, registry)
    except SocketError as error:
        yield fail("socket-paths", str(error), "choose a shorter driver name or kubelet root")
    else:
        longest = max(len(os.fsencode(path)) for path in (paths.dra, paths.registration))
        yield ok("socket-paths", f"{paths.dra.name} and {paths.registration.name} fit, {longest} bytes")


def cdi_folder(options: NodeOptions) -> Iterator[Finding]:
    """Whether the CDI folder is writable, and read by container runtimes."""
    name, folder = "cdi", options.cdi_directory
    if not folder.exists():
        trouble = _unusable(_first_existing(folder))
        if trouble:
            yield fail(
                name,
                f"{folder} does not exist and can't be created: {trouble}",
                f"create {folder} on the node",
            )
            return
        yield ok(name, f"{folder} does not exist yet; the agent creates it")
    elif trouble := _unusable(folder):
        yield fail(name, f"{folder}: {trouble}", f"mount {folder} read-write")
    elif folder not in _CDI_FOLDERS and not options.simulated:
        yield warn(
            name,
            f"{folder} is writable, but container runtimes do not read it by default",
            "add it to the container runtime's CDI folders, or use /var/run/cdi",
        )
    else:
        yield ok(name, f"{folder} is writable, {len(list(folder.iterdir()))} files")


class _Sink:
    """Keeps the reader's report about itself."""

    def __init__(self) -> None:
        self.report: MonitorReport | None = None

    def put(self, signal: Signal) -> None:
        if isinstance(signal, MonitorReport):
            self.report = signal


def _read_to_the_end(source: KmsgSource) -> None:
    """Waits until the log was read to its end, or reading it failed."""
    pause, until = threading.Event(), time.monotonic() + _LOG_SECONDS
    while time.monotonic() < until and not source.has_read_all:
        if source.state not in (None, MonitorState.WATCHING):
            return
        pause.wait(_STEP_SECONDS)


def _unusable(folder: Path) -> str:
    if not folder.is_dir():
        return "no such folder"
    return "" if os.access(folder, os.W_OK | os.X_OK) else "not writable"


def _first_existing(folder: Path) -> Path:
    return next((parent for parent in folder.parents if parent.exists()), folder)


def _others(folder: Path, naming: Naming) -> str:
    """A list of the other plugins that are registered with the kubelet, as text."""
    sockets = sorted(path.name for path in folder.iterdir() if path.name.endswith("-reg.sock"))
    others = [name for name in sockets if not name.startswith(f"{naming.driver}-")]
    return f"; other plugins: {', '.join(others)}" if others else ""
