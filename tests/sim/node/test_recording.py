"""A replay of a live agent's recording yields the agent's verdicts."""

import json

import pytest

from gpuvitals.cli.main import main
from support.worlds.agent_node import AgentNode


def test_a_replay_of_a_recording_ends_as_the_agent_does(
    node: AgentNode, capsys: pytest.CaptureFixture[str]
) -> None:
    node.settle()
    node.burst(2)
    node.gpus.xid(5, 94, "Contained: SM (0x1). RST: No, D-RST: No")
    node.agent.wait(lambda: node.shows(2, "Unhealthy") and node.shows(5, "Degraded"))
    recorded = node.agent.recording
    wanted = ('"code":79', '"code":94', '"status":"lost"')
    node.agent.wait(lambda: recorded.exists() and all(part in recorded.read_text() for part in wanted))

    capsys.readouterr()
    assert main(["replay", "--json", str(recorded)]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    published = {
        node.gpus.gpus[number].uuid: node.devices()[node.name(number)]["attributes"] for number in range(8)
    }
    judged = {each["uuid"]: each for each in summary["gpus"]}

    assert judged.keys() == published.keys()
    for uuid, attributes in published.items():
        assert judged[uuid]["state"] == attributes["health/state"]["string"]
        assert judged[uuid]["reason"] == attributes["health/reason"]["string"]
    assert [each["outcome"] for each in summary["isolations_kept"]] == ["confirmed"]
