"""Numbers of the driver that this version does not know are unknown, neither good nor bad."""

from pathlib import Path

import pytest

from gpuvitals.model.signal import Checkup, FabricState, InventoryReport, LinkState, Reading, ReadStatus
from support.fakes.nvml_mock import MockState, library
from support.worlds.nvml_world import running

pytestmark = pytest.mark.needs_cc


@pytest.fixture(scope="module")
def nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def state(tmp_path: Path) -> MockState:
    return MockState(tmp_path / "nvml.state", gpus=1)


def one_reading(state: MockState, nvml: Path) -> Reading:
    environment = {"LD_LIBRARY_PATH": str(nvml), "NVML_MOCK_STATE": str(state.path)}
    with running(environment=environment, sysfs=state.path.parent / "sys") as world:
        return world.sink.reading(world.gpus()[0], ReadStatus.OK)


@pytest.mark.parametrize("number", [4, 7, 255])
def test_a_link_state_without_a_name_is_unknown(state: MockState, nvml: Path, number: int) -> None:
    """Finding N5: it is neither active nor inactive."""
    state.set(0, {"linkstate.5": number, "linkstate.6": 3, "linkstate.7": 2})
    reading = one_reading(state, nvml)

    assert reading.links is not None
    assert reading.links[5:8] == (LinkState.UNKNOWN, LinkState.INACTIVE, LinkState.SLEEP)


def test_a_link_that_is_asked_in_the_old_way_is_up_down_or_unknown(state: MockState, nvml: Path) -> None:
    """Finding N5: nvmlDeviceGetNvLinkState answers nvmlEnableState_t, which has no sleep."""
    for link in range(18):
        state.drop(0, f"linkstate.{link}")
    state.set(0, {"link.3": 0, "link.4": 2})
    reading = one_reading(state, nvml)

    assert reading.links is not None
    assert reading.links[2:5] == (LinkState.ACTIVE, LinkState.INACTIVE, LinkState.UNKNOWN)


@pytest.mark.parametrize(
    ("facts", "fabric"),
    [
        pytest.param({"fabric": 4}, None, id="state"),
        pytest.param({"fabrichealth": 9 << 8}, None, id="misconfiguration"),
        pytest.param({"fabrichealth": 8 << 8}, FabricState.FAILED, id="last known misconfiguration"),
        pytest.param({"fabrichealth": 1 << 8}, FabricState.COMPLETED, id="configured"),
        pytest.param({"fabrichealth": 3}, None, id="flag"),
        pytest.param({"fabrichealth": 3 << 4}, None, id="route flag"),
        pytest.param({"fabrichealth": (9 << 8) | (1 << 4)}, FabricState.FAILED, id="a known fault beside it"),
        pytest.param({"fabrichealth": (9 << 8) | 1}, FabricState.DEGRADED, id="a lesser fault beside it"),
        pytest.param({"fabricsummary": 4}, None, id="summary"),
        pytest.param({"fabricsummary": 1}, FabricState.COMPLETED, id="known summary"),
    ],
)
def test_a_fabric_number_without_a_name_is_unknown(
    state: MockState, nvml: Path, facts: dict[str, int | str], fabric: FabricState | None
) -> None:
    """Finding N5: a known fault shows, whatever else is not understood; nothing unknown is taken for well or for failed."""
    state.set(0, facts)
    reading = one_reading(state, nvml)

    assert reading.fabric is fabric
    assert ("not known" in reading.detail) is (fabric is None)


@pytest.mark.parametrize("facts", [{"migmode": 2}, {"migmode": 9}])
def test_a_mig_mode_without_a_name_changes_no_division(
    state: MockState, nvml: Path, facts: dict[str, int | str]
) -> None:
    """Finding N5: instances that exist are not taken for destroyed."""
    state.divide(0, 7, 8)
    environment = {"LD_LIBRARY_PATH": str(nvml), "NVML_MOCK_STATE": str(state.path)}
    with running(environment=environment, sysfs=state.path.parent / "sys") as world:
        gpus = world.gpus()
        state.set(0, facts)
        mark = world.sink.mark()
        for _ in range(3):
            reading = world.sink.reading(gpus[0], ReadStatus.OK, since=mark)
            mark = world.sink.mark()
        inventories = [entry for entry in world.sink.signals if isinstance(entry, InventoryReport)]

    assert "MIG mode" in reading.detail
    assert [len(entry.gpus) for entry in inventories] == [3]


def test_a_field_that_the_driver_does_not_know_is_not_supported(state: MockState, nvml: Path) -> None:
    """Finding N6: a driver before R570 answers INVALID_ARGUMENT for the field of the recovery action."""
    state.node({"lastfield": 200})
    reading = one_reading(state, nvml)

    assert (reading.recovery_action, reading.unsupported) == (None, frozenset({"recovery_action"}))


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"failed": 0xA5A5}, "remap_failed"),
        ({"pending": 2}, "remap_pending"),
        ({"sram": 255}, "sram_threshold_exceeded"),
    ],
)
def test_a_flag_that_is_neither_set_nor_clear_is_unknown(
    state: MockState, nvml: Path, facts: dict[str, int | str], name: str
) -> None:
    """Finding N5: a number that is no flag isolates nothing."""
    state.set(0, facts)
    reading = one_reading(state, nvml)

    assert getattr(reading, name) is None
    assert f"{name}: " in reading.detail
    assert name not in reading.unsupported


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"repair.tpc": 9}, "repair_pending"),
        ({"unrepairable": 7}, "memory_unrepairable"),
        ({"field.31": 5}, "page_retirement_pending"),
    ],
)
def test_a_flag_of_a_checkup_is_set_clear_or_unknown(
    state: MockState, nvml: Path, facts: dict[str, int | str], name: str
) -> None:
    """Finding N5."""
    state.set(0, facts)
    environment = {"LD_LIBRARY_PATH": str(nvml), "NVML_MOCK_STATE": str(state.path)}
    with running(environment=environment, sysfs=state.path.parent / "sys") as world:
        checkup = world.sink.wait(Checkup)

    assert getattr(checkup, name) is None
    assert f"{name}: " in checkup.detail
