"""An agent at rest, as the API server sees it."""

import time

import pytest

from support.worlds.agent_node import agent_node, serving


@pytest.mark.timeout(120)
def test_an_agent_at_rest_asks_the_api_server_for_nothing() -> None:
    """Finding R13: whatever it asks is asked 5,000 times in a large cluster."""
    with serving() as server, agent_node(server) as node:
        node.agent.wait(lambda: len(node.devices()) == 8)
        watches = {"resourceslices", "nodes", "gpuhealthpolicies"}

        def watched() -> set[str]:
            return {entry.resource for entry in server.requests.select(verb="watch")}

        node.agent.wait(lambda: watched() == watches)
        # The first checkups add facts of a GPU, which are written.
        time.sleep(3)
        server.requests.clear()
        time.sleep(25)
        asked = [
            (entry.verb, entry.resource)
            for entry in server.requests.all()
            if entry.user_agent.startswith("gpuvitals")
        ]

    assert asked == []
