"""The node agent's metrics: counters that the edges feed and a collector that reads the snapshot at scrape time.

Names carry the prefix `gpuvitals_` and base units. No label names a claim, a pod or a process: a scrape must not
leak who uses a GPU. Histograms start at 1 ms and reach the kubelet's 45 s.
"""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gpuvitals.inventory.attributes import omitted_versions
from gpuvitals.inventory.device import is_offered
from gpuvitals.model.health import HealthState
from gpuvitals.model.signal import MonitorState
from gpuvitals.model.snapshot import Snapshot

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 45)


class NodeMetrics:
    """Every metric of the node agent, on a registry of its own. Thread safe."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        Info("gpuvitals_build", "Version of this agent.", registry=self.registry).info({"version": version})
        self._add_fault_path(self.registry)
        self._add_people(self.registry)
        self._add_kubelet_side(self.registry)
        self._add_edges(self.registry)

    def watch_snapshot(self, current: Callable[[], Snapshot | None]) -> None:
        """Adds the gauges that are read from the current snapshot at each scrape."""
        self.registry.register(_SnapshotCollector(current))

    def _add_fault_path(self, registry: CollectorRegistry) -> None:
        """From a signal to what the cluster shows."""
        self.fault_to_publish_seconds = Histogram(
            "gpuvitals_fault_to_publish_seconds",
            "From a fault being heard to the slice that shows it being accepted.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.pending_faults = Gauge(
            "gpuvitals_pending_faults", "Faults seen that the cluster does not show yet.", registry=registry
        )
        self.signals = Counter(
            "gpuvitals_signals",
            "Signals heard. verdict: folded, unattributed, failed, spoofed or malformed.",
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
            "Devices that are not published since the API server would refuse them, or did.",
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

    def _add_people(self, registry: CollectorRegistry) -> None:
        """What people and programs say of GPUs."""
        self.statements = Gauge(
            "gpuvitals_statements",
            "Reports and overrides that stand. source: operator or drop-in.",
            ["source"],
            registry=registry,
        )
        self.reports_refused = Counter(
            "gpuvitals_reports_refused", "Reports and overrides that could not be used.", registry=registry
        )

    def _add_kubelet_side(self, registry: CollectorRegistry) -> None:
        """What the kubelet asks for, and what is kept for it."""
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
            "GPUs in whose NVML calls a worker hung, or killed workers that do not die where those are more.",
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
    def __init__(self, current: Callable[[], Snapshot | None]) -> None:
        self._current = current

    def collect(self) -> Iterable[Metric]:
        """Devices by state, each device's score, and which sources see; nothing before the first snapshot."""
        devices = GaugeMetricFamily("gpuvitals_devices", "Devices by health state.", labels=["state"])
        score = GaugeMetricFamily("gpuvitals_device_score", "Health score, 0..100.", labels=["bus_id"])
        watching = GaugeMetricFamily(
            "gpuvitals_monitor_watching",
            "1 where a source of signals sees, 0 where it is blind.",
            labels=["source"],
        )
        spared = GaugeMetricFamily(
            "gpuvitals_devices_spared",
            "Devices that a policy keeps in service although they should be out.",
        )
        omitted = GaugeMetricFamily(
            "gpuvitals_omitted_versions",
            "Version attributes left out because what the driver says is no version.",
        )
        snapshot = self._current()
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
