"""A stop keeps its deadline."""

import threading
import time
from dataclasses import replace

from support.waiting import eventually
from support.worlds.plugin_world import FAST, World, kubelet


def test_stop_does_not_wait_for_an_api_server_that_holds_up_the_check_of_claims(node: World) -> None:
    gate = threading.Event()
    limits = replace(FAST, claim_check_seconds=0.05)
    claim = node.allocate(1, 0)
    plugin = node.plugin(limits=limits)
    plugin.start()
    plugin.attach(node.ports())
    try:
        with kubelet(plugin) as calls:
            calls.prepare(claim)
        node.claims.gate = gate
        reads = node.claims.reads
        eventually(lambda: node.claims.reads > reads)
        began = time.monotonic()
        plugin.stop(0.3)
        took = time.monotonic() - began
    finally:
        gate.set()

    assert took < 2
