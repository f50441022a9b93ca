"""Bad inputs of the sources: lines that any user can write to the kernel log, and invalid answers of the library."""

import time
from pathlib import Path

import pytest

from gpuvitals.model.clock import Moment
from gpuvitals.model.gpu import Gpu
from gpuvitals.model.ids import GpuUuid, PciBusId
from gpuvitals.model.signal import GapReport, Signal, XidReport
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.signals.clock import SystemClock
from gpuvitals.signals.kmsg.record_stream import KmsgCounters, RecordStream
from gpuvitals.signals.nvml.decode import Placement, gpu_from, reading_from
from gpuvitals.signals.nvml_worker.protocol import DriverFacts, GpuFacts, GpuValues
from support.worlds.agent_world import AgentWorld, inventory, reading
from support.worlds.nvml_world import Recorder

BUS = "0000:03:00"


def fed(*texts: bytes | str, priority: int = 4) -> tuple[list[Signal], KmsgCounters, NodeMetrics]:
    """Records with these texts, or lines as they are."""
    sink, metrics = Recorder(), NodeMetrics("test")
    feed = RecordStream(SystemClock(), sink, resume_after=None, accept_user_facility=False, metrics=metrics)
    lines = [
        text if isinstance(text, bytes) else f"{priority},{number},1000,-;{text}".encode()
        for number, text in enumerate(texts, start=1)
    ]
    feed.take(lines)
    return sink.signals, feed.counters, metrics


def codes(signals: list[Signal]) -> list[int]:
    return [signal.code for signal in signals if isinstance(signal, XidReport)]


def counted(metrics: NodeMetrics, verdict: str) -> float | None:
    labels = {"source": "kmsg", "kind": "line", "verdict": verdict}
    return metrics.registry.get_sample_value("gpuvitals_signals_total", labels)


def test_an_xid_of_facility_1_is_counted_as_spoofed_and_ignored() -> None:
    signals, counters, metrics = fed(f"NVRM: Xid (PCI:{BUS}): 79, x", priority=12)

    assert signals == []
    assert (counters.spoofed, counted(metrics, "spoofed")) == (1, 1)


@pytest.mark.parametrize(
    "text",
    [f"app: NVRM: Xid (PCI:{BUS}): 79, x", f" NVRM: Xid (PCI:{BUS}): 79", f"x NVRM: Xid (PCI:{BUS}): 79"],
)
def test_an_xid_in_the_middle_of_a_line_is_ignored(text: str) -> None:
    assert codes(fed(text)[0]) == []


def test_an_xid_of_an_unknown_bus_id_is_told_and_touches_no_device(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    (signal,) = fed("NVRM: Xid (PCI:0000:63:00): 79, GPU has fallen off the bus.")[0]
    world.turn(1010, signal)

    assert len(world.published) == 1
    assert [entry.reason for entry in world.events] == ["UnattributedFault"]
    assert "0000:63:00.0" in world.events[0].message
    labels = {"source": "kmsg", "kind": "XidReport", "verdict": "unattributed"}
    assert world.metrics.registry.get_sample_value("gpuvitals_signals_total", labels) == 1


@pytest.mark.parametrize("name", ["x): 79, y", "\\x1b[31mred", "a\\x0ab"], ids=["code", "ansi", "newline"])
def test_a_process_name_changes_neither_the_code_nor_the_log(name: str) -> None:
    signals = fed(f"NVRM: Xid (PCI:{BUS}): 13, pid=7, name={name}, Graphics Exception")[0]

    assert codes(signals) == [13]
    assert all(ord(character) >= 0x20 for character in repr(signals))


@pytest.mark.parametrize("code", ["0", "-1", "1000000000000", "0x4f", "", "seventy"])
def test_a_code_that_is_none_takes_no_device_out_and_has_everything_read_again(
    tmp_path: Path, code: str
) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    signals, counters, _ = fed(f"NVRM: Xid (PCI:{BUS}): {code}, x")
    world.turn(1010, *signals)

    assert not any(entry.isolated for entry in world.published[-1].gpus)
    assert codes(signals) == ([0] if code == "0" and codes(signals) else [])
    assert counters.malformed == 1 or codes(signals) == [0]


@pytest.mark.parametrize(
    "line",
    [b"4,1,1,-;NVRM: " + b"x" * (1 << 20), b"4,1,1,-;NVRM: Xid \xff\xfe", b"NVRM: Xid (PCI:0000:03:00): 79"],
    ids=["1 MiB", "utf-8", "no semicolon"],
)
def test_a_line_that_is_no_record_is_dropped_and_counted_in_no_time(line: bytes) -> None:
    began = time.monotonic()
    signals, counters, metrics = fed(line)

    assert time.monotonic() - began < 0.05
    assert codes(signals) == []
    assert (counters.malformed, counted(metrics, "malformed")) == (1, 1)


def test_a_sequence_that_goes_backwards_resets_the_reader() -> None:
    signals, counters, _ = fed(
        b"6,500,1,-;usb 1-1: new device", f"4,3,1,-;NVRM: Xid (PCI:{BUS}): 48, DBE".encode()
    )

    assert codes(signals) == [48]
    assert counters.resets == 1
    assert not any(isinstance(signal, GapReport) for signal in signals)


def known() -> Gpu:
    return Gpu(
        uuid=GpuUuid("GPU-1"), bus_id=PciBusId("0000:03:00.0"), product_name="NVIDIA H100", memory_bytes=1
    )


def now() -> Moment:
    return SystemClock().now()


def test_garbage_strings_are_cleaned_and_an_identity_that_is_none_is_refused() -> None:
    driver = DriverFacts(driver_version="570\0.1\n", cuda_driver_version="12.8", gpu_count=1)
    facts = GpuFacts(
        uuid="GPU-1", bus_id="00000000:03:00.0", name="H100\x1b[31m" + "x" * 500, memory_bytes=-5
    )
    gpu = gpu_from(facts, driver, Placement())

    assert (gpu.driver_version, gpu.memory_bytes) == ("570.1", 0)
    assert gpu.product_name.isprintable()
    assert len(gpu.product_name) <= 96
    for bad in ({"uuid": "\0"}, {"uuid": "MIG"}, {"bus_id": "zz"}):
        with pytest.raises(ValueError, match=r"uuid|bus id"):
            gpu_from(
                GpuFacts(**{"uuid": "GPU-1", "bus_id": "0000:03:00.0", "name": "n"} | bad),
                driver,
                Placement(),
            )


def test_values_that_are_none_are_unknown_and_states_that_are_none_are_refused() -> None:
    shown = reading_from(
        GpuValues(ecc_uncorrected_volatile=-1, recovery_action=-3, unsupported=("fabric",)), known(), now()
    )

    assert (shown.ecc_uncorrected_volatile, shown.recovery_action, shown.fabric) == (None, None, None)
    with pytest.raises(ValueError, match="purple"):
        reading_from(GpuValues(links=("purple",)), known(), now())


def test_a_counter_that_falls_heals_nothing(tmp_path: Path) -> None:
    world = AgentWorld(tmp_path)
    world.begin()
    world.turn(1005, inventory(1005), reading(2, 1005, ecc_uncorrected_aggregate=9, remap_failed=True))
    before = world.published[-1].gpus[2].verdict.state
    world.turn(1010, reading(2, 1010, ecc_uncorrected_aggregate=1, remap_failed=True))

    assert world.published[-1].gpus[2].verdict.state is before
    assert world.published[-1].gpus[2].isolated
