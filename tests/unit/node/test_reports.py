"""Reports in the agent: the GPUs concerned, expiry, published state, restarts."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from gpuvitals.health.state import initial_state
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.pool import pool
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.model.gpu import DeviceKind, Gpu, MigInstance
from gpuvitals.model.health import HealthState
from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.signal import ExternalReport, ExternalReports, ReportedState, Signal, Source
from gpuvitals.node.report_annotations import AnnotationPorts, ReportAnnotations
from gpuvitals.node.reports import RefusedReports, names
from gpuvitals.node.state_store import GpuRecord
from gpuvitals.node.storage import StorageReport
from gpuvitals.observability.metrics import NodeMetrics
from support.fakes.agent_ports import Role
from support.fakes.event_log import EventLog
from support.signals import moment
from support.worlds.agent_world import AgentWorld, TurnedClock, gpu, reading


def report(at: float, *reports: ExternalReport, source: Source = Source.OPERATOR) -> ExternalReports:
    return ExternalReports(source=source, seen=moment(at), reports=reports)


def bad(name: str, expires: float | None = None) -> ExternalReport:
    until = None if expires is None else moment(expires).time
    return ExternalReport(gpu=name, state=ReportedState.BAD, by="jane", reason="ticket 123", expires=until)


def remembered(device: Gpu, *, retired: bool = False) -> GpuRecord:
    return GpuRecord(
        gpu=device,
        state=initial_state(device, moment(1000)),
        published=None,
        published_at=0.0,
        state_since=moment(1000).time,
        isolated=False,
        retired=retired,
    )


def out(world: AgentWorld) -> list[int]:
    return [index for index, entry in enumerate(world.published[-1].gpus) if entry.isolated]


@pytest.mark.parametrize("name", ["GPU-3", "0000:03:00.0", "gpu-0000-03-00-0"])
def test_a_report_takes_out_the_gpu_that_it_names(tmp_path: Path, name: str) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1001, report(1001, bad(name)))

    assert out(world) == [3]
    notes = dict(pool(world.published[-1], Naming(), ServiceMode.TAINT).slices[0].annotations)
    assert json.loads(notes["vitals.internal/node-report"])["statements"] == [f"{name} bad, jane: ticket 123"]


def test_an_expired_report_ends_by_itself(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1001, report(1001, bad("GPU-3", expires=1010)))
    world.turn(1009, reading(3, 1009))
    assert out(world) == [3]
    world.turn(1010, reading(3, 1010))

    assert out(world) == []
    assert world.published[-1].gpus[3].verdict.reason == "Probation"


def test_a_report_applies_before_the_gpus_are_known_and_after_a_restart(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.turn(999, report(999, bad("GPU-3")))
    world.begin()
    assert out(world) == [3]
    heir = AgentWorld(tmp_path)
    heir.turn(1010, reading(3, 1010))

    assert out(heir) == [3]
    heir.turn(1011, report(1011))
    assert out(heir) == []


def test_a_report_about_no_gpu_of_the_node_is_announced_and_changes_nothing(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1001, report(1001, bad("GPU-33")))
    world.turn(1002)

    assert out(world) == []
    assert [each.reason for each in world.events] == ["UnattributedReport"]


def test_programs_that_report_every_gpu_take_out_half_of_the_node(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    everyone = [bad(f"GPU-{index}") for index in range(8)]
    world.turn(1001, report(1001, *everyone, source=Source.DROP_IN))
    for at in range(1005, 1306, 5):
        world.turn(at, *(reading(index, at) for index in range(8)))

    assert len(out(world)) == 4
    assert [entry.verdict.state for entry in world.published[-1].gpus] == [HealthState.UNHEALTHY] * 8


def test_a_clear_starts_probation(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1001, report(1001, bad("GPU-3")))
    repaired = ExternalReport(
        gpu="GPU-3", state=ReportedState.CLEAR, by="jane", reason="reseated", at=moment(1100)
    )
    world.turn(1101, report(1101, repaired), reading(3, 1101))

    assert out(world) == []
    assert world.published[-1].gpus[3].verdict.reason == "Probation"


def test_the_name_of_a_gpu_means_its_instances_and_that_of_an_instance_itself() -> None:
    parent = gpu(3)
    mig = MigInstance(parent=parent.uuid, profile="1g.10gb", gpu_instance=7, compute_instance=0, placement=2)
    instance = Gpu(
        uuid=GpuUuid("MIG-7"),
        bus_id=parent.bus_id,
        kind=DeviceKind.MIG,
        product_name="",
        memory_bytes=1,
        mig=mig,
    )
    meant = ("GPU-3", "0000:03:00.0", "gpu-0000-03-00-0", "MIG-7", "gpu-0000-03-00-0-mig-1g-10gb-2")

    assert [name for name in meant if names(name, remembered(instance))] == list(meant)
    assert [name for name in meant if names(name, remembered(parent))] == list(meant[:3])


def test_a_retired_gpu_is_meant_by_its_uuid_alone() -> None:
    """Finding R1: the names of a slot are those of the GPU that is there now."""
    meant = ("GPU-3", "0000:03:00.0", "gpu-0000-03-00-0")

    assert [name for name in meant if names(name, remembered(gpu(3), retired=True))] == ["GPU-3"]


class Annotations:
    """The annotations of a Node, with everything that was said and refused."""

    def __init__(self, folder: Path) -> None:
        self.said: list[ExternalReports] = []
        self.events = EventLog()
        ports = AnnotationPorts(
            refused=RefusedReports(self.events, NodeMetrics("test")),
            role=Role(),
            storage=StorageReport(EventLog()),
        )
        self.reader = ReportAnnotations(Naming(), folder / "statements.json", TurnedClock(), self, ports)
        self.reader.load()

    def put(self, signal: Signal) -> None:
        assert isinstance(signal, ExternalReports)
        self.said.append(signal)

    def sees(self, report: str = "", override: str = "", **other: str) -> tuple[str, ...]:
        texts = {"vitals.internal/report": report, "vitals.internal/override": override}
        self.reader.update(other | {key: text for key, text in texts.items() if text})
        return tuple(f"{each.gpu} {each.state.value} {each.by}" for each in self.said[-1].reports)


def override(say: str = "bad", name: str = "GPU-1") -> str:
    end = (moment(1000).time + timedelta(days=1)).isoformat()
    entry = {"gpu": name, "say": say, "by": "jane", "reason": "x", "at": moment(900).time.isoformat()}
    return json.dumps([entry | {"expires": end}])


@pytest.fixture
def annotations(tmp_path: Path) -> Annotations:
    return Annotations(tmp_path)


def test_both_annotations_are_read_and_the_signed_one_goes_first(annotations: Annotations) -> None:
    assert annotations.sees("GPU-2 bad ticket 7", override()) == ("GPU-1 bad jane", "GPU-2 bad annotation")
    assert annotations.sees() == ()


def test_a_node_without_annotations_says_so_once(annotations: Annotations) -> None:
    assert annotations.sees() == ()
    annotations.sees(**{"other.example.com/x": "y"})

    assert len(annotations.said) == 1


@pytest.mark.parametrize(
    ("see", "where"),
    [
        (
            lambda annotations: annotations.sees("GPU-2 is broken", override()),
            "annotation vitals.internal/report",
        ),
        (
            lambda annotations: annotations.sees("GPU-2 bad ticket 7", "[]]"),
            "annotation vitals.internal/override",
        ),
        (
            lambda annotations: annotations.sees("GPU-2 bad ticket 7", override("worse")),
            "annotation vitals.internal/override",
        ),
        (lambda annotations: annotations.sees("x" * 16_385, override()), "annotation vitals.internal/report"),
    ],
    ids=["line", "json", "field", "size"],
)
def test_an_annotation_that_went_bad_changes_nothing_also_over_a_restart(
    tmp_path: Path, see: Callable[[Annotations], tuple[str, ...]], where: str
) -> None:
    annotations = Annotations(tmp_path)
    before = annotations.sees("GPU-2 bad ticket 7", override())
    assert see(annotations) == before
    assert [each.message.partition(":")[0] for each in annotations.events] == [where]
    heir = Annotations(tmp_path)

    assert [each.gpu for each in heir.said[-1].reports] == ["GPU-1", "GPU-2"]
    assert see(heir) == before


def test_a_torn_file_costs_what_was_said_until_the_node_is_read(tmp_path: Path) -> None:
    (tmp_path / "statements.json").write_text("{")
    annotations = Annotations(tmp_path)

    assert annotations.said == []
    assert annotations.sees("GPU-2 bad ticket 7") == ("GPU-2 bad annotation",)
