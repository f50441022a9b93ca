"""A kubelet, as far as a DRA driver and the pods that use it can tell.

May live here: plugin registration, preparation of claims, health of devices, pod status, CDI at container start, each as
the real kubelet does it. May not: anything a driver could import, or that knows this driver.
"""

from gpuvitals_sim.kubelet.config import Call, ContainerView, KubeletConfig, PluginView
from gpuvitals_sim.kubelet.kubelet import Kubelet
from gpuvitals_sim.kubelet.timings import KubeletTimings

__all__ = ["Call", "ContainerView", "Kubelet", "KubeletConfig", "KubeletTimings", "PluginView"]
