"""The requests that a fault causes, counted in the request log of the API server."""

import json
import time

from support.worlds.agent_node import AgentNode, devices_of, encoded

_FOLLOW_UP_SECONDS = 30.0


def test_xid_79_under_two_pods_is_one_put_one_follow_up_and_one_claim_patch(
    node: AgentNode,
) -> None:
    node.hold("faulty", 3)
    node.hold("sibling", 5)
    before, failed = node.devices(), node.name(3)
    node.server.requests.clear()
    node.burst(3)
    node.agent.wait(lambda: node.shows(3, "Unhealthy"))
    time.sleep(_FOLLOW_UP_SECONDS)
    after, writes = node.devices(), node.slice_writes()

    assert [entry.method for entry in writes][:1] == ["PUT"]
    assert [entry.method for entry in writes[1:]] in ([], ["PUT"])
    assert [entry.status for entry in writes] == [200] * len(writes)
    for entry in writes:
        sent = devices_of([json.loads(entry.body)])
        assert sent[failed]["taints"][0]["effect"] == "NoSchedule"
        assert encoded(sent, failed) == encoded(before, failed)
    assert encoded(after, failed) == encoded(before, failed)
    assert after[failed]["attributes"]["health/reason"] == {"string": "Xid79"}
    assert after[failed]["attributes"]["health/score"] == {"int": 0}
    assert [entry.status for entry in node.claim_writes("faulty")] == [200]
    assert (node.condition("faulty")["status"], node.condition("faulty")["reason"]) == ("False", "Xid79")
    assert node.claim_writes("sibling") == []


def test_eight_gpus_at_once_are_at_most_two_puts(node: AgentNode) -> None:
    for gpu in range(8):
        node.hold(f"claim-{gpu}", gpu)
    node.server.requests.clear()
    node.burst(*range(8))
    node.agent.wait(lambda: all(node.shows(gpu, "Unhealthy") for gpu in range(8)))
    time.sleep(10)

    assert [entry.method for entry in node.slice_writes()] in (["PUT"], ["PUT", "PUT"])
    for gpu in range(8):
        assert [entry.status for entry in node.claim_writes(f"claim-{gpu}")] == [200]


def test_a_quiet_node_asks_for_nothing(node: AgentNode) -> None:
    """Polls go on, and the API server hears nothing of them."""
    node.hold("held", 1)
    time.sleep(1)
    node.server.requests.clear()
    time.sleep(4)

    assert [(entry.method, entry.path) for entry in node.server.requests.all()] == []
