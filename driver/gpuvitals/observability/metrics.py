"""The node agent's metrics: counters that the edges increment, and a collector that reads the snapshot at each scrape.

Names have the prefix `gpuvitals_` and base units. No label names a claim, a pod or a process: a scrape must not reveal
the users of a GPU. Histograms cover 1 ms to the kubelet's timeout of 45 s.
"""

from collections.abc import Iterable
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gpuvitals.inventory.attributes import omitted_versions
from gpuvitals.inventory.device import is_offered
from gpuvitals.model.health import HealthState
from gpuvitals.model.signal import MonitorState
from gpuvitals.model.snapshot import Snapshot

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 45)


class SnapshotSource(Protocol):
    """The node's agent."""

    @property
    def snapshot(self) -> Snapshot | None:
        """The newest snapshot; None before the first. Any thread."""
        ...


class NodeMetrics:
    """Every metric of the node agent, on a registry of its own. Thread safe."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        Info("gpuvitals_build", "Version of this agent.", registry=self.registry).info({"version": version})
        self._add_fault_path(self.registry)
        self._add_reports(self.registry)
        self._add_kubelet_side(self.registry)
        self._add_edges(self.registry)

    def watch_snapshot(self, source: SnapshotSource) -> None:
        """Adds the gauges that are computed from the newest snapshot at each scrape."""
        self.registry.register(_SnapshotCollector(source))

    def _add_fault_path(self, registry: CollectorRegistry) -> None:
        """From a signal to the stored slice."""
        self.fault_to_publish_seconds = Histogram(
            "gpuvitals_fault_to_publish_seconds",
            "Time from reading a fault to the acceptance of the slice that shows it.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.pending_faults = Gauge(
            "gpuvitals_pending_faults", "Faults that the stored slices do not show yet.", registry=registry
        )
        self.signals = Counter(
            "gpuvitals_signals",
            "Signals received. verdict: folded, unattributed, failed, spoofed or malformed.",
            ["source", "kind", "verdict"],
            registry=registry,
        )
        self.signal_gaps = Counter(
            "gpuvitals_signal_gaps", "Records that a source lost.", ["source"], registry=registry
        )
        self.slice_writes = Counter(
            "gpuvitals_slice_writes", "ResourceSlice writes by answer.", ["reason", "code"], registry=registry
        )
        self.devices_left_out = Gauge(
            "gpuvitals_devices_left_out",
            "Devices that are not published because the API server would refuse them, or has refused them.",
            registry=registry,
        )
        self.slice_writes_suppressed = Counter(
            "gpuvitals_slice_writes_suppressed",
            "Changes of health that were not worth a write.",
            registry=registry,
        )
        self.claim_writes = Counter(
            "gpuvitals_claim_status_writes", "Claim status writes by answer.", ["code"], registry=registry
        )

    def _add_reports(self, registry: CollectorRegistry) -> None:
        """Reports of operators and programs about GPUs."""
        self.standing_reports = Gauge(
            "gpuvitals_statements",
            "Reports and overrides in force. source: operator or drop-in.",
            ["source"],
            registry=registry,
        )
        self.reports_refused = Counter(
            "gpuvitals_reports_refused", "Reports and overrides that could not be used.", registry=registry
        )

    def _add_kubelet_side(self, registry: CollectorRegistry) -> None:
        """The kubelet's calls, and the state kept for them."""
        self.prepare_seconds = Histogram(
            "gpuvitals_prepare_seconds",
            "Time to answer for one claim. op: prepare or unprepare; code: ok or the refusal's reason.",
            ["op", "code"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.prepared_claims = Gauge(
            "gpuvitals_prepared_claims", "Claims in the checkpoint.", registry=registry
        )
        self.checkpoint_recoveries = Counter(
            "gpuvitals_checkpoint_recoveries",
            "Times a state file had to be recovered.",
            ["cause"],
            registry=registry,
        )
        self.health_stream_clients = Gauge(
            "gpuvitals_health_stream_clients", "Open health streams of the kubelet.", registry=registry
        )

    def _add_edges(self, registry: CollectorRegistry) -> None:
        """The driver below and the API server above."""
        self.nvml_call_seconds = Histogram(
            "gpuvitals_nvml_call_seconds",
            "NVML calls by kind.",
            ["call"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.nvml_hung = Gauge(
            "gpuvitals_nvml_hung",
            "GPUs with a hung NVML call, or killed workers that have not exited, whichever is more.",
            registry=registry,
        )
        self.objects_skipped = Counter(
            "gpuvitals_api_objects_skipped",
            "Stored objects that could not be decoded and were left out.",
            ["resource"],
            registry=registry,
        )
        self.api_retries = Counter(
            "gpuvitals_api_retries", "API server calls tried again.", ["code"], registry=registry
        )


class _SnapshotCollector(Collector):
    def __init__(self, source: SnapshotSource) -> None:
        self._source = source

    def collect(self) -> Iterable[Metric]:
        """Devices by state, each device's score, and the state of each source; no samples before the first snapshot."""
        devices = GaugeMetricFamily("gpuvitals_devices", "Devices by health state.", labels=["state"])
        score = GaugeMetricFamily("gpuvitals_device_score", "Health score, 0..100.", labels=["bus_id"])
        watching = GaugeMetricFamily(
            "gpuvitals_monitor_watching",
            "1 while a source of signals can be read, otherwise 0.",
            labels=["source"],
        )
        spared = GaugeMetricFamily(
            "gpuvitals_devices_spared",
            "Devices that a policy keeps in service against their verdict.",
        )
        omitted = GaugeMetricFamily(
            "gpuvitals_omitted_versions",
            "Version attributes omitted because the driver's text is no version.",
        )
        snapshot = self._source.snapshot
        if snapshot is not None:
            spared.add_metric([], sum(bool(entry.spared) for entry in snapshot.gpus))
            omitted.add_metric([], sum(len(omitted_versions(entry.gpu)) for entry in snapshot.gpus))
            for state in HealthState:
                count = sum(entry.verdict.state is state for entry in snapshot.gpus if is_offered(entry.gpu))
                devices.add_metric([state.value], count)
            for entry in snapshot.gpus:
                label = str(entry.gpu.bus_id)
                if entry.gpu.mig is not None:
                    label += f"/{entry.gpu.mig.gpu_instance}/{entry.gpu.mig.compute_instance}"
                score.add_metric([label], entry.verdict.score)
            for source, seen in snapshot.facts.monitors:
                watching.add_metric([source.value], seen is MonitorState.WATCHING)
        yield devices
        yield score
        yield watching
        yield omitted
        yield spared
