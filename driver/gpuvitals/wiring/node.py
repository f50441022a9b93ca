"""The node agent, composed of its parts.

Order matters. The kubelet's sockets open first, from `bootstrap` alone; what is slow to import or to reach comes
behind them.
"""

import logging
import os
import threading
import time

from gpuvitals.bootstrap import NodeOptions
from gpuvitals.config import NodeConfig
from gpuvitals.kube.claim_reader import ClaimReader
from gpuvitals.kube.claim_writer import ClaimStatusWriter
from gpuvitals.kube.events import EventRecorder, EventSource
from gpuvitals.kube.other_drivers import NeighbourSettings, NeighbourWatch
from gpuvitals.kube.slices.ports import PublisherSettings
from gpuvitals.kube.slices.publisher import SlicePublisher
from gpuvitals.kube.slices.recall import SliceRecall
from gpuvitals.kube.transport import ConnectSettings, connect
from gpuvitals.kube.write_priority import RightOfWay
from gpuvitals.kubeletplugin.files_watch import FilesWatch
from gpuvitals.kubeletplugin.ports import PluginPorts
from gpuvitals.model.ids import NodeName
from gpuvitals.node.agent import AgentSettings, NodeAgent
from gpuvitals.node.debug_answers import DebugAnswers
from gpuvitals.node.edge_adapters import ClaimAdapter, EventAdapter
from gpuvitals.node.events import memory_recovered
from gpuvitals.node.outputs import Outputs, Writers
from gpuvitals.node.policy_resolver import GovernorPorts
from gpuvitals.node.ports import AgentPorts
from gpuvitals.node.probe_checks import NodeChecks
from gpuvitals.node.probes import Checks, ProbeServer
from gpuvitals.node.slots import in_a_slot
from gpuvitals.node.state_store import Memory, StateStore
from gpuvitals.node.storage import StorageReport
from gpuvitals.node.taint_times import TaintMemory
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.observability.publish_latency import PendingFaults
from gpuvitals.signals.clock import SystemClock, boot_id
from gpuvitals.signals.kmsg.source import KmsgPosition, KmsgSettings, KmsgSource
from gpuvitals.signals.nvml.monitor import NvmlMonitor, NvmlSettings
from gpuvitals.signals.nvml.polling import NvmlPeriods
from gpuvitals.signals.recording import SignalRecorder
from gpuvitals.signals.sysfs import SysfsSource, SysfsTree
from gpuvitals.wiring.inputs import ExternalInputs, ExternalInputSettings, dcgm_settings
from gpuvitals.wiring.kubelet_sockets import Sockets, driver_place

log = logging.getLogger(__name__)

VERSION = "0.1.0"
_STOP_SECONDS = 5.0
_PART_SECONDS = 1.5
_LEAST_SECONDS = 0.1
"""A stop takes at most the first altogether; a part gets at most the second and at least the third."""


class Node:
    """The node agent, composed. `start` opens the sockets first; `run` returns when `stop` was called or a part failed."""

    def __init__(self, options: NodeOptions, config: NodeConfig, sockets: Sockets | None = None) -> None:
        """`sockets` are of the names in `config`, and may be open already.

        Raises ApiError where credentials can't be loaded, and OSError where the machine does not tell its boot id.
        """
        self._options, self._config, self._naming = options, config, config.naming
        self._clock = SystemClock()
        self._metrics = NodeMetrics(VERSION)
        self._pending = PendingFaults(self._clock, self._metrics)
        self._done = threading.Event()
        self._failure = ""
        self._sockets = sockets or Sockets(options, self._naming)
        self._sockets.on_failure(self._fail)
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
        self._way = RightOfWay()
        self._recorder = EventRecorder(
            self._transport,
            EventSource(controller=f"{self._naming.api_group}/agent", instance=f"gpuvitals-{options.node}"),
            metrics=self._metrics,
            priority=self._way,
        )
        self._events = EventAdapter(self._recorder, options.node)
        self._outputs = Outputs(self._naming, self._plugin, self._events, self._pending)
        self._storage = StorageReport(self._outputs)
        self._taints = TaintMemory(options.state_directory / "taints.json", self._storage)
        self._government = self._govern()

    def start(self) -> None:
        """Starts every part. Raises what a part raises that can't; the sockets are closed again then."""
        self._hook, threading.excepthook = threading.excepthook, self._thread_died
        self._sockets.open()
        try:
            self._start_behind_sockets()
        except Exception:  # whatever it was, the kubelet must see this instance leave; it is raised on
            self._sockets.stop(_PART_SECONDS)
            raise

    def _start_behind_sockets(self) -> None:
        memory = self._memory()
        self._government.governor.load()
        self._build_agent(memory)
        self._build_writers()
        node_checks = NodeChecks(
            agent=self._agent,
            plugin=self._plugin,
            publisher=self._publisher,
            outputs=self._outputs,
            files=self._files,
        )
        checks = Checks(live=node_checks.live, ready=node_checks.ready, remark=node_checks.remark)
        self._probes = ProbeServer(self._options.probe_address, self._metrics.registry, checks)
        self._agent.listen(self._outputs.publish)
        self._agent.restore(memory)
        self._plugin.subscribe(self._outputs)
        self._plugin.attach(self._plugin_ports())
        for part in (
            self._government,
            self._other_drivers,
            self._publisher,
            self._claims,
            self._recorder,
            self._probes,
            self._agent,
        ):
            part.start()
        for source in (self._heard, self._files, self._kmsg, self._sysfs, self._nvml):
            source.start()
        self._recall.start(is_needed=not memory.is_complete)
        self._outputs.kubelet_changed()
        log.info("agent started", extra=keys(node=self._options.node, probes=self._probes.port))

    def run(self) -> str:
        """Waits for `stop`. The reason of a part that could not go on, or an empty string."""
        while not self._done.wait(1.0):
            self._outputs.kubelet_changed()
        return self._failure

    def request_stop(self) -> None:
        """Has `run` return. Any thread; not from a signal handler, since an Event takes a lock."""
        self._done.set()

    def stop(self) -> None:
        """Stops every part within `_STOP_SECONDS`, sources and memory first. Slices, claims and devices stay."""
        until = time.monotonic() + _STOP_SECONDS

        def left() -> float:
            return min(_PART_SECONDS, max(_LEAST_SECONDS, until - time.monotonic()))

        for source in (self._kmsg, self._sysfs, self._nvml, self._files, self._heard):
            source.stop(left())
        for part in (
            self._agent,
            self._sockets,
            self._publisher,
            self._government,
            self._other_drivers,
            self._claims,
            self._recall,
            self._recorder,
        ):
            part.stop(left())
        self._transport.close()
        self._probes.stop()
        threading.excepthook = self._hook
        log.info("agent stopped", extra=keys(node=self._options.node))

    def _memory(self) -> Memory:
        memory = self._store.load()
        if memory.trouble:
            log.error("state recovered", extra=keys(cause=memory.cause, reason=memory.trouble))
            self._metrics.checkpoint_recoveries.labels(cause=memory.cause).inc()
            self._outputs.emit_once_publishing(memory_recovered(memory))
        return memory

    def _govern(self) -> ExternalInputs:
        ports = GovernorPorts(
            changed=lambda: self._agent.queue.wake(),
            events=self._outputs,
            may_save=self._plugin.publishing,
            storage=self._storage,
        )
        settings = ExternalInputSettings(
            node=self._options.node,
            naming=self._naming,
            base=self._config.health_policy,
            poll_seconds=self._config.poll_seconds,
            directory=self._options.state_directory,
            seconds=self._config.node_poll_seconds,
            drop_in=self._options.reports_directory,
            dcgm=dcgm_settings(
                self._config.dcgm_url, self._options.node_address, any_host=self._config.dcgm_any_host
            ),
        )
        return ExternalInputs(
            settings,
            self._transport,
            self._metrics,
            ports,
            node_has=lambda resources: self._other_drivers.set_allocatable(resources),
        )

    def _build_agent(self, memory: Memory) -> None:
        stored = memory.node
        self._recall = SliceRecall(
            self._options.node, self._naming, self._transport, self._metrics, lambda: self._agent.queue.wake()
        )
        ports = AgentPorts(
            holders=self._outputs.holders,
            claimed=self._outputs.claimed,
            repoll=lambda uuid: self._nvml.request_poll(uuid),
            avoid=lambda uuid: self._nvml.avoid(uuid),
            kmsg_sequence=self._kmsg_sequence,
            events=self._outputs,
            rules=self._government.governor.rules,
            is_settled=lambda: self._government.governor.is_settled,
            is_publishing=self._plugin.publishing,
            storage=self._storage,
            recalled=lambda: self._recall.verdicts,
            files=lambda gpus: self._files.seen_of(gpus),
        )
        settings = AgentSettings(node=NodeName(self._options.node), boot_id=self._boot)
        self._agent = NodeAgent(settings, self._clock, self._store, ports, self._metrics)
        self._heard = SignalRecorder(self._agent.queue, self._clock, self._options.record_signals)
        self._government.open_doors(self._clock, self._heard)
        self._metrics.watch_snapshot(lambda: self._agent.snapshot)
        resume = None
        # Of a GPU that is not remembered, the log of this boot is read from its start.
        if stored is not None and stored.kmsg_sequence is not None and memory.is_resumable:
            resume = KmsgPosition(boot_id=stored.boot_id, sequence=stored.kmsg_sequence)
        log_settings = KmsgSettings(
            path=self._options.kernel_log,
            boot_id=self._boot,
            resume=resume,
            accept_user_facility=self._options.accept_user_kernel_lines,
        )
        self._kmsg = KmsgSource(log_settings, self._clock, self._heard, metrics=self._metrics)
        tree = SysfsTree(self._options.sysfs_root)
        self._sysfs = SysfsSource(tree, self._clock, self._heard)
        self._files = FilesWatch(self._plugin.driver_root, tree, self._agent.queue)
        nvml = NvmlSettings(
            backend=self._options.nvml_backend,
            environment={**os.environ, **driver_place(self._options).environment()},
            sysfs=self._options.sysfs_root,
            remembered=in_a_slot(stored.gpus) if stored is not None else (),
            periods=NvmlPeriods(poll=self._config.poll_seconds),
        )
        self._nvml = NvmlMonitor(
            nvml,
            self._clock,
            self._heard,
            lambda gpus: self._sysfs.watch(gpu.bus_id for gpu in gpus),
            self._metrics,
        )

    def _build_writers(self) -> None:
        settings = PublisherSettings(
            driver=self._naming.driver,
            node=self._options.node,
            annotation=self._naming.node_report,
            mode=self._config.forced_mode,
            taint_times=self._taints.load(),
            priority=self._way,
        )
        self._publisher = SlicePublisher(settings, self._transport, self._metrics, self._outputs)
        beside = NeighbourSettings(driver=self._naming.driver, node=self._options.node)
        self._other_drivers = NeighbourWatch(
            beside, self._transport, self._metrics, self._outputs.show_slices
        )
        self._claims = ClaimStatusWriter(
            self._transport,
            self._metrics,
            self._outputs,
            self._way,
            self._options.node,
        )
        writers = Writers(
            slices=self._publisher,
            taint_times=self._taints,
            claims=self._claims,
            other_drivers=self._other_drivers,
        )
        self._outputs.attach(lambda: self._agent.snapshot, writers)

    def _plugin_ports(self) -> PluginPorts:
        answers = DebugAnswers(self._naming, self._clock, self._agent, self._plugin, self._outputs)
        answers.on_forgotten(self._nvml.forget)
        return PluginPorts(
            claims=ClaimAdapter(ClaimReader(self._transport, self._claims)),
            agent=self._agent,
            events=self._events,
            readiness=self._outputs,
            metrics=self._metrics,
            debug=answers,
        )

    def _kmsg_sequence(self) -> int | None:
        position = self._kmsg.position
        return position.sequence if position is not None else None

    def _fail(self, reason: str) -> None:
        self._failure = reason
        self._done.set()

    def _thread_died(self, died: threading.ExceptHookArgs) -> None:
        """A part without its thread is worse than no agent: the process ends, and the next one remembers."""
        name = died.thread.name if died.thread is not None else "unknown"
        error = died.exc_value
        trace = (died.exc_type, error, died.exc_traceback) if error is not None else None
        log.critical("thread died", extra=keys(thread=name), exc_info=trace)
        self._fail(f"thread {name} died of {died.exc_type.__name__}: {error}; the agent ends")
