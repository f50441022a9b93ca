"""Loads the memory of an earlier agent, and derives from it the starting point of the sources."""

import logging

from gpuvitals.model.gpu import Gpu
from gpuvitals.node.events import memory_recovered
from gpuvitals.node.outputs import Outputs
from gpuvitals.node.slots import in_a_slot
from gpuvitals.node.state_store import Memory, StateStore
from gpuvitals.observability.logs import keys
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.signals.kmsg.source import KmsgPosition

log = logging.getLogger(__name__)


def load_memory(store: StateStore, outputs: Outputs, metrics: NodeMetrics) -> Memory:
    """The readable part of the memory. The unreadable part is logged, counted, and reported as an event."""
    memory = store.load()
    if memory.trouble:
        log.error("state recovered", extra=keys(cause=memory.cause, reason=memory.trouble))
        metrics.checkpoint_recoveries.labels(cause=memory.cause).inc()
        outputs.emit_once_publishing(memory_recovered(memory))
    return memory


def kernel_log_position(memory: Memory) -> KmsgPosition | None:
    """The position after which the kernel log is read; None for its start.

    If a GPU is missing in the memory, the whole log of this boot is read for it.
    """
    stored = memory.node
    if stored is None or stored.kmsg_sequence is None or not memory.is_resumable:
        return None
    return KmsgPosition(boot_id=stored.boot_id, sequence=stored.kmsg_sequence)


def remembered_gpus(memory: Memory) -> tuple[Gpu, ...]:
    """The GPUs in the memory that own a slot: they are polled even before the driver lists them."""
    return () if memory.node is None else in_a_slot(memory.node.gpus)
