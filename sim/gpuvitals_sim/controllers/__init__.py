"""The simulated kube-controller-manager: what a cluster does by itself, beside API server and scheduler.

May live here: one module per controller, each a level-triggered pass over what the API shows. May not: anything
about GPUs, and nothing of our own controller.

    from gpuvitals_sim.apiserver import ApiServer
    from gpuvitals_sim.controllers import ControllerManager

    with ApiServer() as server, ControllerManager(server.client("kube-controller-manager")):
        ...     # claims are generated and released, taints evict, budgets are counted, orphans collected

One thread runs them all; it wakes on every change in the store and when a controller asked to look again.
"""

from gpuvitals_sim.controllers.manager import ControllerManager, ControllerSettings

__all__ = ["ControllerManager", "ControllerSettings"]
