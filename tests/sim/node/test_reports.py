"""Reports about a GPU to the live agent: by annotation, by `gpuvitals report`, and by a file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpuvitals.cli.main import main
from gpuvitals_sim.apiserver import ApiServer
from support.worlds.agent_node import AgentNode, agent_node, encoded


@pytest.fixture
def node(server: ApiServer) -> Iterator[AgentNode]:
    with agent_node(server, often) as built:
        yield built


def often(folder: Path) -> None:
    """Has the Node looked at five times a second."""
    with (folder / "node.yaml").open("a", encoding="utf-8") as file:
        file.write("node_poll_seconds: 0.2\n")


def annotate(node: AgentNode, **texts: str) -> None:
    client = node.server.client("admin")
    stored = client.get("nodes", "node-a")
    stored["metadata"]["annotations"] = {f"vitals.internal/{key}": text for key, text in texts.items()}
    client.update("nodes", stored)


def reason(node: AgentNode, gpu: int) -> str:
    return str(node.devices()[node.name(gpu)]["attributes"]["health/reason"]["string"])


def events(node: AgentNode, wanted: str) -> list[dict[str, Any]]:
    listed = node.server.client("test").list("events")
    return [each for each in listed if each["reason"] == wanted]


def test_an_operators_word_reaches_the_claim_and_the_siblings_do_not_move(node: AgentNode) -> None:
    node.hold("train", 3)
    before, writes = encoded(node.devices(), node.name(3)), len(node.slice_writes())
    annotate(node, report=f"{node.name(3)} bad ticket 123")
    node.agent.wait(lambda: node.shows(3, "Unhealthy"))
    node.agent.wait(lambda: node.condition("train")["status"] == "False")

    assert reason(node, 3) == "ReportedBad"
    assert "annotation: ticket 123" in node.condition("train")["message"]
    assert encoded(node.devices(), node.name(3)) == before
    assert len(node.slice_writes()) == writes + 1
    annotate(node)
    node.agent.wait(lambda: node.shows(3, "Healthy"))


def test_the_verb_report_declares_a_gpu_bad_and_repaired(
    node: AgentNode, capsys: pytest.CaptureFixture[str]
) -> None:
    server = f"--server={node.server.url}"
    node.gpus.xid(4, 95, "Uncontained: LTC TAG (0x2, 0x1). RST: Yes, D-RST: No", event=False)
    node.agent.wait(lambda: node.shows(4, "Unhealthy"))
    assert main(["report", "node-a", node.name(3), "bad", "--reason", "burns", "--by", "jane", server]) == 0
    node.agent.wait(lambda: node.shows(3, "Unhealthy"))
    assert main(["report", "node-a", node.name(4), "clear", "--reason", "reseated", server]) == 0
    node.agent.wait(lambda: reason(node, 4) in ("Probation", "None"))

    assert reason(node, 3) == "ReportedBad"
    assert main(["report", "node-a", node.name(3), "nothing", server]) == 0
    node.agent.wait(lambda: node.shows(3, "Healthy"))
    assert "within half a minute" in capsys.readouterr().out


def test_bad_input_is_an_event_on_the_node_that_names_the_field(node: AgentNode) -> None:
    writes = len(node.slice_writes())
    annotate(node, override='[{"gpu": "gpu-1", "say": "bad", "by": "jane", "reason": "x"}]')
    node.agent.wait(lambda: bool(events(node, "ReportInvalid")))
    (told,) = events(node, "ReportInvalid")

    assert "annotation vitals.internal/override: [0].expires: is missing" in told["message"]
    assert told["involvedObject"] == {**told["involvedObject"], "kind": "Node", "name": "node-a"}
    assert len(node.slice_writes()) == writes


def test_a_file_of_a_program_degrades_first(server: ApiServer) -> None:
    def reports(folder: Path) -> None:
        (folder / "reports.d").mkdir(mode=0o755)

    with agent_node(server, reports) as node:
        made = node.folder / "made"
        made.write_text(f"{node.name(2)} bad failed the burn-in\n")
        made.rename(node.folder / "reports.d" / "burn-in.txt")
        node.agent.wait(lambda: node.shows(2, "Degraded"))

        assert reason(node, 2) == "ProgramReportedBad"
        (node.folder / "reports.d" / "burn-in.txt").unlink()
        node.agent.wait(lambda: node.shows(2, "Healthy"))


def test_a_date_beyond_the_calendar_is_an_error_of_that_report_only(node: AgentNode) -> None:
    """Finding R2: in an annotation and in a file; the agent goes on, and takes the next report."""
    beyond = '[{{"gpu": "{name}", "say": "bad", "by": "jane", "reason": "x", "expires": "{date}"}}]'
    folder = node.folder / "reports.d"
    folder.mkdir(mode=0o755, exist_ok=True)
    text = beyond.format(name=node.name(1), date="9999-12-31T20:00:00-11:30")
    (folder / "far.json").write_text(text, encoding="utf-8")
    annotate(node, override=text)
    node.agent.wait(lambda: len(events(node, "ReportInvalid")) >= 2)
    notes = [each.get("message") or each.get("note") for each in events(node, "ReportInvalid")]
    assert all("expires" in str(note) for note in notes)

    annotate(node, report=f"{node.name(2)} bad ticket 7")
    (folder / "near.txt").write_text(f"{node.name(4)} degraded smells\n", encoding="utf-8")
    node.agent.wait(lambda: node.shows(2, "Unhealthy") and node.shows(4, "Degraded"))
    assert node.shows(1, "Healthy")
