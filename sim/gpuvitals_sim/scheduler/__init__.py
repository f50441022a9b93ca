"""A simulated scheduler: allocates claims for devices as Kubernetes does and binds their pods.

May live here: pools of published devices, the search through them, the choice of a node, the real scheduler's messages.
May not: anything about GPUs. Not simulated: CPU and memory (of a node's resources only the extended ones count), affinity
between pods, preemption, shared capacity and counters, devices that choose their nodes one by one, binding conditions,
scoring beyond "first choice, then the emptier node". `tests/contract/scheduling` compares it with the real one.
"""

from gpuvitals_sim.scheduler.scheduler import Scheduler

__all__ = ["Scheduler"]
