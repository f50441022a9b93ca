"""The simulated kube-controller-manager.

May live here: one module per controller, each a level-triggered pass over the API's objects. May not: anything about
GPUs, and parts of gpuvitals' own controller.

    from gpuvitals_sim.apiserver import ApiServer
    from gpuvitals_sim.controllers import ControllerManager

    with ApiServer() as server, ControllerManager(server.client("kube-controller-manager")):
        ...     # generates and releases claims, evicts for taints, counts budgets, collects garbage

One thread runs all of them; it wakes on every change in the store and at the times that controllers have returned.
"""

from gpuvitals_sim.controllers.manager import ControllerManager, ControllerSettings

__all__ = ["ControllerManager", "ControllerSettings"]
