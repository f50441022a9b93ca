"""Harmless events of a busy, healthy node.

Place in the chain: the action runner generates them for a while: heat below slowdown, correctable errors, an
application's XIDs repeated by one claim.
"""

import random

from gpuvitals_sim.hardware.scripted_node import ScriptedNode

_LINES = (
    "usb 1-2: new high-speed USB device number 7 using xhci_hcd",
    "eth0: link becomes ready",
    "perf: interrupt took too long (2508 > 2500), lowering kernel.perf_event_max_sample_rate",
)
_MARGIN_COOL, _MARGIN_WARM = 20, 45


class Noise:
    """Noise on one node; the same seed makes the same noise."""

    def __init__(self, node: ScriptedNode, seed: int) -> None:
        self._node = node
        self._rng = random.Random(seed)
        self._gpus = len(node.gpus)
        self._corrected = [0] * self._gpus

    def once(self) -> None:
        """One harmless event of each kind, each on a random GPU."""
        warm, flipped, busy = (self._rng.randrange(self._gpus) for _ in range(3))
        self._node.set(warm, {"thermal_margin_celsius": self._rng.randint(_MARGIN_COOL, _MARGIN_WARM)})
        self._corrected[flipped] += self._rng.randint(1, 1000)
        self._node.set(flipped, {"ecc_corrected_volatile": self._corrected[flipped]})
        self._node.xid(busy, 43, "Ch 00000008", process="train")
        self._node.kernel_line(self._rng.choice(_LINES))
