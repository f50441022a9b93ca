"""A simulated kubelet, with the behaviour that a DRA driver and its pods can observe.

May live here: plugin registration, preparation of claims, health of devices, pod status, CDI at container start, each as
in the real kubelet. May not: anything that is specific to this driver.
"""

from gpuvitals_sim.kubelet.config import Call, ContainerView, KubeletConfig, PluginView
from gpuvitals_sim.kubelet.kubelet import Kubelet
from gpuvitals_sim.kubelet.timings import KubeletTimings

__all__ = ["Call", "ContainerView", "Kubelet", "KubeletConfig", "KubeletTimings", "PluginView"]
