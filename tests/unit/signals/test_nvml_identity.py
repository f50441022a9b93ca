"""The worker's plain values are decoded into the model, or refused with a reason."""

import pytest

from gpuvitals.model.ids import GpuUuid
from gpuvitals.model.signal import ReadStatus
from gpuvitals.signals.clock import SystemClock
from gpuvitals.signals.nvml.decode import (
    Placement,
    bus_id_from,
    gpu_from,
    in_pci_order,
    reading_from,
    status_from,
    with_expected_links,
)
from gpuvitals.signals.nvml_worker.protocol import DriverFacts, GpuFacts, GpuValues

DRIVER = DriverFacts(driver_version="595.45.04", cuda_driver_version="13.2", gpu_count=1)


def facts(**changes: object) -> GpuFacts:
    fields = {"uuid": "GPU-1", "bus_id": "00000000:3B:00.0", "name": "H100", "active_links": 18} | changes
    return GpuFacts(**fields)  # type: ignore[arg-type]  # the fields are as the struct declares them


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("00000000:3B:00.0", "0000:3b:00.0"),
        ("0000:3b:00", "0000:3b:00.0"),
        ("00010000:01:00.0", "10000:01:00.0"),
        ("00000009:01:1F.7", "0009:01:1f.7"),
    ],
)
def test_a_bus_id_has_one_spelling(text: str, wanted: str) -> None:
    assert bus_id_from(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "3b:00.0", "0000:3b:ff.0", "0000:3b:00.9", "0000:3b:00.0x", "٠000:3b:00.0"]
)
def test_anything_else_is_no_bus_id(text: str) -> None:
    with pytest.raises(ValueError, match="bus id"):
        bus_id_from(text)


@pytest.mark.parametrize("uuid", ["", "MIG-1", "gpu-1", "GPU-\u0661"])
def test_a_gpu_without_a_uuid_is_none(uuid: str) -> None:
    with pytest.raises(ValueError, match="uuid"):
        gpu_from(facts(uuid=uuid), DRIVER, Placement())


def test_names_lose_what_cannot_be_shown() -> None:
    gpu = gpu_from(facts(name="H100\x00\x1b[31m" + "x" * 200), DRIVER, Placement())

    assert gpu.product_name.startswith("H100[31mx")
    assert len(gpu.product_name) < 100


def test_a_link_that_was_down_at_both_starts_is_remembered() -> None:
    known = gpu_from(facts(), DRIVER, Placement())
    now = gpu_from(facts(active_links=16), DRIVER, Placement())
    (result,) = with_expected_links([now], {known.uuid: known})

    assert result.expected_links == 18


def test_another_model_says_nothing_about_links() -> None:
    first = gpu_from(facts(), DRIVER, Placement())
    second = gpu_from(facts(uuid="GPU-2", name="L40S", active_links=0), DRIVER, Placement())

    assert [gpu.expected_links for gpu in with_expected_links([first, second], {})] == [18, 0]


def test_pci_order_is_by_domain_then_bus() -> None:
    spread = ["00010000:01:00.0", "00000002:01:00.0", "00000000:c3:00.0"]
    gpus = [gpu_from(facts(uuid=f"GPU-{text}", bus_id=text), DRIVER, Placement()) for text in spread]

    assert [gpu.bus_id for gpu in in_pci_order(gpus)] == ["0000:c3:00.0", "0002:01:00.0", "10000:01:00.0"]


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (15, ReadStatus.LOST),
        (28, ReadStatus.LOST),
        (6, ReadStatus.LOST),
        (16, ReadStatus.RESET_REQUIRED),
        (999, ReadStatus.FAILED),
        (4, ReadStatus.FAILED),
    ],
)
def test_an_error_of_a_whole_gpu_has_one_meaning(code: int, status: ReadStatus) -> None:
    assert status_from(code) is status


def test_a_negative_counter_is_no_counter() -> None:
    gpu = gpu_from(facts(), DRIVER, Placement())
    reading = reading_from(
        GpuValues(ecc_uncorrected_volatile=-1, recovery_action=7), gpu, SystemClock().now()
    )

    assert (reading.ecc_uncorrected_volatile, reading.recovery_action) == (None, 7)
    assert reading.uuid == GpuUuid("GPU-1")


def test_a_state_that_is_none_is_refused() -> None:
    gpu = gpu_from(facts(), DRIVER, Placement())

    with pytest.raises(ValueError, match="dozing"):
        reading_from(GpuValues(links=("dozing",)), gpu, SystemClock().now())
