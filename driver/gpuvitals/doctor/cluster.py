"""Checks of the API server with the agent's credentials: version, DRA API, device taints, rights, other drivers."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from gpuvitals.bootstrap import NodeOptions
from gpuvitals.doctor.check import Finding, fail, ok, skipped, warn
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.other_drivers import driver_conflict
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.kube.errors import ApiError, NotFound, Permanent
from gpuvitals.kube.kubeconfig import split
from gpuvitals.kube.nodes import node_owner
from gpuvitals.kube.server_facts import (
    agent_rights,
    denied,
    git_version,
    other_drivers_now,
    resource_versions,
)
from gpuvitals.kube.slices.taint_support import probe_mode
from gpuvitals.kube.transport import ApiTransport, ConnectSettings, connect
from gpuvitals.kube.versions import NEWEST, OLDEST, kubernetes_version
from gpuvitals.model.gpu import Gpu

_HOME_CONFIG = Path(".kube") / "config"


class ClusterChecks:
    """The checks of the API server. `api_server` runs first, because the others use its connection."""

    def __init__(self, options: NodeOptions, naming: Naming) -> None:
        self._options = options
        self._naming = naming
        self._transport: ApiTransport | None = None
        self._version = ""
        self._unreached = "the API server was not reached"

    def api_server(self) -> Iterator[Finding]:
        """Whether the API server answers, and its version."""
        name = "api-server"
        settings = _settings(self._options)
        if settings is None:
            self._unreached = "no API server is configured: this is not a pod, and there is no kubeconfig"
            yield skipped(name, f"{self._unreached}; set --kubeconfig or --server")
            return
        try:
            transport = connect(settings)
            self._version = git_version(transport)
        except Permanent as error:
            yield fail(name, str(error), "check the pod's account, or the kubeconfig")
            return
        except ApiError as error:
            yield fail(name, str(error), "check the network from this node to the API server")
            return
        self._transport = transport
        if kubernetes_version(self._version) is None:
            oldest, newest = (".".join(map(str, each)) for each in (OLDEST, NEWEST))
            yield warn(
                name,
                f"{self._version} is not one of the supported versions {oldest} to {newest}",
                "expect differences; the tests cover the supported versions",
                version=self._version,
            )
        else:
            yield ok(name, self._version, version=self._version)

    def dra_api(self) -> Iterator[Finding]:
        """Whether resource.k8s.io/v1 is served."""
        name, transport = "dra-api", self._transport
        if transport is None:
            yield skipped(name, self._unreached)
            return
        served = resource_versions(transport)
        text = f"resource.k8s.io is served as {', '.join(served) or 'nothing'}"
        if "v1" in served:
            yield ok(name, text, versions=list(served))
        else:
            yield fail(name, text, "use Kubernetes 1.34 or newer with the DynamicResourceAllocation gate on")

    def node(self) -> Iterator[Finding]:
        """Whether the Node exists."""
        name, transport = "node", self._transport
        if transport is None:
            yield skipped(name, self._unreached)
            return
        try:
            node_owner(transport, self._options.node)
        except NotFound:
            yield fail(
                name,
                f"there is no Node {self._options.node}",
                "set NODE_NAME or --node-name to this node's name",
            )
        else:
            yield ok(name, f"{self._options.node} exists")

    def rights(self) -> Iterator[Finding]:
        """Whether the account has the rights that the chart grants."""
        name, transport = "rights", self._transport
        if transport is None:
            yield skipped(name, self._unreached)
            return
        row = kubernetes_version(self._version)
        verbs = row is None or row.claim_status_verbs
        wanted = agent_rights(self._naming.driver, self._naming.api_group, claim_status_verbs=verbs)
        try:
            without = tuple(denied(transport, wanted))
        except NotFound:
            yield skipped(name, "this server has no SelfSubjectAccessReview")
            return
        missing = [str(right) for right in without]
        if without and all(right.optional for right in without):
            text = f"{', '.join(missing)}: not granted, so the Node is polled instead of watched"
            yield warn(
                name, text, "nothing, or bind the chart's ClusterRole of this version", missing=missing
            )
        elif missing:
            text = f"{len(missing)} of {len(wanted)} rights are missing: {', '.join(missing)}"
            yield fail(
                name, text, "install the chart's ClusterRole and bind it to this account", missing=missing
            )
        else:
            yield ok(name, f"all {len(wanted)} rights are granted")

    def device_taints(self) -> Iterator[Finding]:
        """Whether the server stores device taints, tested with a dry run."""
        name, transport = "device-taints", self._transport
        if transport is None:
            yield skipped(name, self._unreached)
            return
        mode = probe_mode(transport, self._naming.driver, self._options.node)
        if mode is ServiceMode.TAINT:
            yield ok(name, "stored: the DRADeviceTaints gate is on")
        else:
            yield warn(
                name,
                "dropped: the DRADeviceTaints gate is off, so failed GPUs leave the slice instead",
                "nothing, or turn the gate on; it is on by default from Kubernetes 1.36",
            )

    def other_drivers(self, gpus: tuple[Gpu, ...]) -> Iterator[Finding]:
        """Whether another driver or a device plugin allocates this node's GPUs."""
        name, transport = "other-drivers", self._transport
        if transport is None:
            yield skipped(name, self._unreached)
            return
        seen = other_drivers_now(transport, self._naming.driver, self._options.node)
        conflict = driver_conflict(gpus, seen)
        beside = sorted({device.driver for device in seen.devices})
        if conflict:
            yield fail(
                name, conflict, "see docs/guides/coexistence.md: GPUs are published by one driver only"
            )
        else:
            more = f"; other drivers: {', '.join(beside)}" if beside else ""
            yield ok(name, f"no other driver allocates these GPUs{more}", drivers=beside)


def _settings(options: NodeOptions) -> ConnectSettings | None:
    """The agent's connection, else that of kubectl on this machine. None if no server is configured."""
    settings = ConnectSettings(
        url=options.server,
        kubeconfig=options.kubeconfig,
        account=options.account_directory,
        user_agent="gpuvitals-doctor",
    )
    if options.server or options.kubeconfig is not None or "KUBERNETES_SERVICE_HOST" in os.environ:
        return settings
    named = os.environ.get("KUBECONFIG", "")
    path = Path(named) if named else Path(os.path.expanduser("~")) / _HOME_CONFIG
    there = any(each.is_file() for each in split(str(path)))
    return replace(settings, kubeconfig=path) if there else None
