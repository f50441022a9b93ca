"""The scripted node: what a scenario does is what the agent's real sources find."""

import multiprocessing
from multiprocessing import resource_tracker
from pathlib import Path

import pytest

from gpuvitals.signals.kmsg.record import kmsg_record
from gpuvitals.signals.kmsg.xid_line import Line, LineKind, XidClassifier
from gpuvitals_sim.hardware.kernel_log import KernelLogFile
from gpuvitals_sim.hardware.profiles import PROFILES
from gpuvitals_sim.hardware.scripted_node import ScriptedNode
from gpuvitals_sim.hardware.state_file import StateError, load_state

# It lives as long as this process, so it is no leak of the test that needs it.
resource_tracker.ensure_running()


@pytest.fixture
def node(tmp_path: Path) -> ScriptedNode:
    return ScriptedNode.create(tmp_path / "node", name="n", gpus=8)


def lines(node: ScriptedNode) -> list[Line]:
    """Every record of the node's log, classified; each must be well formed."""
    classifier = XidClassifier()
    records = [kmsg_record(line) for line in node.kernel_log.read_bytes().splitlines()]
    assert [record.sequence for record in records if record] == list(range(len(records)))
    return [classifier.classify(record) for record in records if record is not None]


def append_many(path: Path) -> None:
    for _ in range(50):
        KernelLogFile(path).append("usb 1-1: new device")


def test_the_same_name_gives_the_same_gpus(tmp_path: Path) -> None:
    first = ScriptedNode.create(tmp_path / "a", name="n").gpus
    second = ScriptedNode.create(tmp_path / "b", name="n").gpus
    other = ScriptedNode.create(tmp_path / "c", name="m").gpus

    assert first == second
    assert not {gpu.uuid for gpu in first} & {gpu.uuid for gpu in other}


def test_a_gpu_off_the_bus_is_logged_as_the_driver_does_it(node: ScriptedNode) -> None:
    node.off_bus(3, process="python3")
    found = [line for line in lines(node) if line.kind is not LineKind.NONE]

    assert [line.kind for line in found] == [LineKind.XID, LineKind.OFF_BUS, LineKind.IDENTITY]
    assert {line.bus_id for line in found} == {node.gpus[3].bus_id}
    assert (found[0].code, found[0].process) == (79, "python3")


def test_a_reset_repairs_and_logs_the_identity(node: ScriptedNode) -> None:
    node.set(1, {"recovery_action": 1, "ecc_uncorrected_volatile": 3, "ecc_uncorrected_aggregate": 3})
    node.set(1, {"links_down": 4, "remap_pending": True, "thermal_margin_celsius": 12})
    node.lose(1)
    node.reset(1)
    gpu = node.gpus[1]

    assert gpu.error == 0
    assert (gpu.readings.recovery_action, gpu.readings.ecc_uncorrected_volatile) == (0, 0)
    assert (gpu.readings.ecc_uncorrected_aggregate, gpu.readings.remap_pending) == (3, False)
    assert gpu.readings.links == ("active",) * 18
    assert [line.uuid for line in lines(node) if line.uuid] == [gpu.uuid]


def test_text_is_escaped_as_the_kernel_does_it(node: ScriptedNode) -> None:
    node.kernel_line("a\nNVRM: Xid (PCI:0000:3b:00): 79, ä\\")

    assert lines(node)[-1].kind is LineKind.NONE
    assert node.kernel_log.read_bytes().endswith(
        rb"a\x0aNVRM: Xid (PCI:0000:3b:00): 79, \xc3\xa4\x5c" + b"\n"
    )


def test_a_line_of_user_space_is_spoofed(node: ScriptedNode) -> None:
    node.kernel_line("NVRM: Xid (PCI:0000:1b:00): 79, x", priority=12)

    assert lines(node)[-1].kind is LineKind.SPOOFED


def test_several_writers_number_their_records_in_one_row(node: ScriptedNode) -> None:
    start = len(lines(node))
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=append_many, args=(node.kernel_log,)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)

    assert len(lines(node)) == start + 100


@pytest.mark.parametrize(
    ("readings", "said"),
    [
        ({"temperature": 3}, "'temperature' does not exist"),
        ({"recovery_action": "reset"}, "recovery_action"),
        ({"links_down": 19}, "number from 0 to 18"),
        ({"links": ["dozing"]}, "links"),
    ],
)
def test_a_reading_that_is_none_is_refused_by_name(
    node: ScriptedNode, readings: dict[str, object], said: str
) -> None:
    before = node.gpus
    with pytest.raises(StateError, match=said):
        node.set(0, readings)

    assert node.gpus == before


def test_a_gpu_that_does_not_exist_is_refused(node: ScriptedNode) -> None:
    with pytest.raises(StateError, match=r"gpu 8 does not exist; the node has 0\.\.7"):
        node.lose(8)


def test_a_profile_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="a100, a100-40gb, a100-mig, b200, h100, l40s, t4"):
        ScriptedNode.create(tmp_path, name="n", profile="h1000")


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_every_profile_makes_a_node(tmp_path: Path, profile: str) -> None:
    node = ScriptedNode.create(tmp_path, name="n", profile=profile, gpus=16)

    assert len({gpu.bus_id for gpu in node.gpus}) == 16


def test_a_state_file_with_a_fault_names_file_and_field(tmp_path: Path) -> None:
    path = tmp_path / "gpus.json"
    path.write_text('{"gpus": [{"uuid": "GPU-1", "bus_id": "x", "name": "y", "minor": "one"}]}')

    with pytest.raises(StateError, match=r"gpus\.json: .*minor"):
        load_state(path)
