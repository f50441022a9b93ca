"""All checks of one node, in order."""

from collections.abc import Callable, Iterable, Iterator

from gpuvitals.bootstrap import NodeOptions
from gpuvitals.doctor.check import Finding, Outcome, findings
from gpuvitals.doctor.cluster import ClusterChecks
from gpuvitals.doctor.driver import NVML_SECONDS, DriverChecks
from gpuvitals.doctor.machine import cdi_folder, kernel_log, kubelet_folders
from gpuvitals.inventory.naming import Naming

_SECONDS = 15.0
"""Deadline of a check of files or of the API server."""


def visit(options: NodeOptions, naming: Naming) -> Iterator[Finding]:
    """The findings, each as soon as its check has ended."""
    driver, cluster = DriverChecks(options, naming), ClusterChecks(options, naming)
    checks: tuple[tuple[str, Callable[[], Iterable[Finding]], float], ...] = (
        ("kernel-log", lambda: kernel_log(options), _SECONDS),
        ("nvml", driver.nvml, NVML_SECONDS),
        ("driver-files", driver.libraries, _SECONDS),
        ("device-nodes", driver.device_nodes, _SECONDS),
        ("cdi", lambda: cdi_folder(options), _SECONDS),
        ("kubelet", lambda: kubelet_folders(options, naming), _SECONDS),
        ("api-server", cluster.api_server, _SECONDS),
        ("dra-api", cluster.dra_api, _SECONDS),
        ("node", cluster.node, _SECONDS),
        ("rights", cluster.rights, _SECONDS),
        ("device-taints", cluster.device_taints, _SECONDS),
        ("other-drivers", lambda: cluster.other_drivers(driver.result.gpus), _SECONDS),
    )
    for name, check, seconds in checks:
        yield from findings(name, check, seconds)


def has_failed(found: Iterable[Finding]) -> bool:
    """Whether a check failed."""
    return any(finding.outcome is Outcome.FAIL for finding in found)
