"""Composes the node agent.

Order matters. The kubelet's sockets open first, from `bootstrap` alone; parts that are slow to import or to connect
follow.
"""

import logging
import os
import time

from gpuvitals.bootstrap import NodeOptions
from gpuvitals.config import NodeConfig
from gpuvitals.kube.claim_reader import ClaimReader
from gpuvitals.kube.claim_writer import ClaimStatusWriter
from gpuvitals.kube.events import EventRecorder, EventSource
from gpuvitals.kube.other_drivers import OtherDriverSettings, OtherDriverWatch
from gpuvitals.kube.slices.ports import PublisherSettings
from gpuvitals.kube.slices.publisher import SlicePublisher
from gpuvitals.kube.slices.recall import SliceRecall
from gpuvitals.kube.transport import ConnectSettings, connect
from gpuvitals.kube.write_priority import SliceWritePriority
from gpuvitals.kubeletplugin.files_watch import FilesWatch
from gpuvitals.kubeletplugin.ports import PluginPorts
from gpuvitals.model.ids import NodeName
from gpuvitals.node.agent import AgentSettings, NodeAgent
from gpuvitals.node.debug_answers import DebugAnswers, DebugParts
from gpuvitals.node.edge_adapters import ClaimAdapter, EventAdapter
from gpuvitals.node.outputs import Outputs, Writers
from gpuvitals.node.policy_resolver import PolicyResolver, ResolverPorts
from gpuvitals.node.ports import AgentPorts
from gpuvitals.node.probe_checks import NodeChecks
from gpuvitals.node.probes import ProbeServer
from gpuvitals.node.queue import SignalQueue
from gpuvitals.node.startup_memory import kernel_log_position, load_memory, remembered_gpus
from gpuvitals.node.state_store import Memory, StateStore
from gpuvitals.node.storage import StorageReport
from gpuvitals.node.taint_times import TaintTimes
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.observability.publish_latency import PendingFaults
from gpuvitals.signals.clock import SystemClock, boot_id
from gpuvitals.signals.kmsg.source import KmsgSettings, KmsgSource
from gpuvitals.signals.nvml.monitor import NvmlMonitor, NvmlSettings
from gpuvitals.signals.nvml.polling import NvmlPeriods
from gpuvitals.signals.recording import SignalRecorder
from gpuvitals.signals.sysfs import SysfsSource, SysfsTree
from gpuvitals.wiring.inputs import ExternalInputs, ExternalInputSettings, InputTargets
from gpuvitals.wiring.kubelet_sockets import Sockets, driver_place

log = logging.getLogger(__name__)

VERSION = "0.1.0"
_STOP_SECONDS = 5.0
_PART_SECONDS = 1.5
_LEAST_SECONDS = 0.1
"""A stop takes at most the first in total; one part gets at most the second and at least the third."""


class Node:
    """The node agent. `start` opens the sockets first; `run` returns after `request_stop` or the failure of a part."""

    def __init__(self, options: NodeOptions, config: NodeConfig, sockets: Sockets | None = None) -> None:
        """`sockets` have the names of `config`, and may be open already.

        Raises ConfigError for an invalid exporter address, ApiError without valid credentials, and OSError if the boot
        id can't be read.
        """
        self._options, self._config, self._naming = options, config, config.naming
        self._dcgm = config.dcgm(options.node_address)
        self._clock = SystemClock()
        self._metrics = NodeMetrics(VERSION)
        self._sockets = sockets or Sockets(options, self._naming)
        self._failure = self._sockets.failure
        self._plugin = self._sockets.plugin
        self._boot = boot_id(options.boot_id_file)
        self._transport = connect(
            ConnectSettings(
                url=options.server,
                kubeconfig=options.kubeconfig,
                account=options.account_directory,
                user_agent=f"gpuvitals/{VERSION}",
            )
        )
        self._store = StateStore(options.state_directory / "health.json")
        self._queue = SignalQueue()
        self._signals = SignalRecorder(self._queue, self._clock, options.record_signals)
        self._priority = SliceWritePriority()
        self._recorder = EventRecorder(
            self._transport,
            EventSource(controller=f"{self._naming.api_group}/agent", instance=f"gpuvitals-{options.node}"),
            metrics=self._metrics,
            priority=self._priority,
        )
        self._events = EventAdapter(self._recorder, options.node)
        pending = PendingFaults(self._clock, self._metrics)
        self._outputs = Outputs(self._naming, self._plugin, self._events, pending)
        self._storage = StorageReport(self._outputs)
        self._taints = TaintTimes(options.state_directory / "taints.json", self._storage)

    def start(self) -> None:
        """Starts every part. Closes the sockets again if a part raises."""
        self._failure.watch_threads()
        self._sockets.open()
        try:
            self._start_behind_sockets()
        except Exception:  # whatever it is, the kubelet must see this instance leave; it is raised on
            self._sockets.stop(_PART_SECONDS)
            raise

    def _start_behind_sockets(self) -> None:
        memory = load_memory(self._store, self._outputs, self._metrics)
        self._build_inputs()
        self._build_sources(memory)
        self._build_agent()
        self._build_writers()
        checks = NodeChecks(
            agent=self._agent,
            plugin=self._plugin,
            publisher=self._publisher,
            outputs=self._outputs,
            files=self._files,
        )
        self._probes = ProbeServer(self._options.probe_address, self._metrics.registry, checks)
        self._agent.listen(self._outputs.publish)
        self._inputs.load()
        self._agent.restore(memory)
        self._plugin.subscribe(self._outputs)
        self._plugin.attach(self._plugin_ports())
        for part in (
            self._inputs,
            self._other_drivers,
            self._publisher,
            self._claims,
            self._recorder,
            self._probes,
            self._agent,
        ):
            part.start()
        for source in (self._signals, self._files, self._kmsg, self._sysfs, self._nvml):
            source.start()
        self._recall.start(is_needed=not memory.is_complete)
        self._outputs.kubelet_changed()
        log.info("agent started", extra=keys(node=self._options.node, probes=self._probes.port))

    def run(self) -> str:
        """Waits for the end. Returns the reason of a part that could not go on, or an empty string."""
        while not self._failure.wait(1.0):
            self._outputs.kubelet_changed()
        return self._failure.reason

    def request_stop(self) -> None:
        """Makes `run` return. Any thread; not from a signal handler, since an Event takes a lock."""
        self._failure.request_stop()

    def stop(self) -> None:
        """Stops every part within `_STOP_SECONDS`, sources and memory first. Slices, claims and devices stay."""
        until = time.monotonic() + _STOP_SECONDS

        def left() -> float:
            return min(_PART_SECONDS, max(_LEAST_SECONDS, until - time.monotonic()))

        for source in (self._kmsg, self._sysfs, self._nvml, self._files, self._signals):
            source.stop(left())
        for part in (
            self._agent,
            self._sockets,
            self._publisher,
            self._inputs,
            self._other_drivers,
            self._claims,
            self._recall,
            self._recorder,
        ):
            part.stop(left())
        self._transport.close()
        self._probes.stop()
        self._failure.unwatch_threads()
        log.info("agent stopped", extra=keys(node=self._options.node))

    def _build_inputs(self) -> None:
        options, config = self._options, self._config
        beside = OtherDriverSettings(driver=self._naming.driver, node=options.node)
        self._other_drivers = OtherDriverWatch(
            beside, self._transport, self._metrics, self._outputs.show_slices
        )
        ports = ResolverPorts(
            queue=self._queue, events=self._outputs, role=self._plugin, storage=self._storage
        )
        path = options.state_directory / "policies.json"
        self._resolver = PolicyResolver(config.health_policy, path, ports, config.poll_seconds)
        settings = ExternalInputSettings(
            node=options.node,
            naming=self._naming,
            node_poll_seconds=config.node_poll_seconds,
            reports=options.state_directory / "statements.json",
            report_folder=options.reports_directory,
            dcgm=self._dcgm,
        )
        targets = InputTargets(
            resolver=self._resolver,
            other_drivers=self._other_drivers,
            signals=self._signals,
            events=self._outputs,
            role=self._plugin,
            storage=self._storage,
            clock=self._clock,
        )
        self._inputs = ExternalInputs(settings, self._transport, self._metrics, targets)

    def _build_sources(self, memory: Memory) -> None:
        options = self._options
        log_settings = KmsgSettings(
            path=options.kernel_log,
            boot_id=self._boot,
            resume=kernel_log_position(memory),
            accept_user_facility=options.accept_user_kernel_lines,
        )
        self._kmsg = KmsgSource(log_settings, self._clock, self._signals, metrics=self._metrics)
        tree = SysfsTree(options.sysfs_root)
        self._sysfs = SysfsSource(tree, self._clock, self._signals)
        self._files = FilesWatch(self._plugin.driver_root, tree, self._queue)
        nvml = NvmlSettings(
            backend=options.nvml_backend,
            environment={**os.environ, **driver_place(options).environment()},
            sysfs=options.sysfs_root,
            remembered=remembered_gpus(memory),
            periods=NvmlPeriods(poll=self._config.poll_seconds),
        )
        self._nvml = NvmlMonitor(
            nvml,
            self._clock,
            self._signals,
            self._sysfs,
            self._metrics,
        )
        self._recall = SliceRecall(
            options.node, self._naming, self._transport, self._metrics, self._queue.wake
        )

    def _build_agent(self) -> None:
        ports = AgentPorts(
            queue=self._queue,
            devices=self._outputs,
            monitor=self._nvml,
            kernel_log=self._kmsg,
            events=self._outputs,
            policies=self._resolver,
            role=self._plugin,
            storage=self._storage,
            published=self._recall,
            files=self._files,
        )
        settings = AgentSettings(node=NodeName(self._options.node), boot_id=self._boot)
        self._agent = NodeAgent(settings, self._clock, self._store, ports, self._metrics)
        self._metrics.watch_snapshot(self._agent)

    def _build_writers(self) -> None:
        settings = PublisherSettings(
            driver=self._naming.driver,
            node=self._options.node,
            annotation=self._naming.node_report,
            mode=self._config.forced_mode,
            taint_times=self._taints.load(),
            priority=self._priority,
        )
        self._publisher = SlicePublisher(settings, self._transport, self._metrics, self._outputs)
        self._claims = ClaimStatusWriter(
            self._transport,
            self._metrics,
            self._outputs,
            self._priority,
            self._options.node,
        )
        writers = Writers(
            slices=self._publisher,
            taint_times=self._taints,
            claims=self._claims,
            other_drivers=self._other_drivers,
        )
        self._outputs.attach(self._agent, writers)

    def _plugin_ports(self) -> PluginPorts:
        parts = DebugParts(agent=self._agent, plugin=self._plugin, outputs=self._outputs, monitor=self._nvml)
        return PluginPorts(
            claims=ClaimAdapter(ClaimReader(self._transport, self._claims)),
            agent=self._agent,
            events=self._events,
            readiness=self._outputs,
            metrics=self._metrics,
            debug=DebugAnswers(self._naming, self._clock, parts),
        )
