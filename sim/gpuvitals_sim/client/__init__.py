"""Access to an API server over HTTP for the simulated kubelet and scheduler: requests, a cache, events.

May live here: transport and the cache built on it, without knowledge of pods or devices. May not: decisions.
"""

from gpuvitals_sim.client.events import EventRecord, record_event
from gpuvitals_sim.client.http import HttpClient, Unreachable
from gpuvitals_sim.client.informer import Informer

__all__ = ["EventRecord", "HttpClient", "Informer", "Unreachable", "record_event"]
