"""The mock library answers as `nvml.h` documents, called directly: docs/reference/nvml.md has the table."""

import ctypes
from collections.abc import Callable, Iterator
from ctypes import byref, c_char, c_char_p, c_int, c_uint, c_ulonglong, c_void_p, create_string_buffer
from pathlib import Path

import pytest

from support.fakes.nvml_mock import MockState, library

pytestmark = pytest.mark.needs_cc

SUCCESS, UNINITIALIZED, INVALID, NOT_SUPPORTED, NOT_FOUND, TOO_SMALL, LOST = 0, 1, 2, 3, 6, 7, 15
UNSIGNED_INT, UNSIGNED_LONG_LONG = 1, 3


class Pci(ctypes.Structure):
    _fields_ = [
        ("legacy", c_char * 16),
        ("domain", c_uint),
        ("bus", c_uint),
        ("device", c_uint),
        ("id", c_uint),
        ("subsystem", c_uint),
        ("bus_id", c_char * 32),
    ]


class Memory(ctypes.Structure):
    _fields_ = [("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong)]


class Field(ctypes.Structure):
    _fields_ = [
        ("field", c_uint),
        ("scope", c_uint),
        ("timestamp", ctypes.c_longlong),
        ("latency", ctypes.c_longlong),
        ("type", c_uint),
        ("ret", c_uint),
        ("value", c_ulonglong),
    ]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return ctypes.CDLL(str(library(tmp_path_factory.mktemp("nvml")) / "libnvidia-ml.so.1"))


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MockState:
    made = MockState(tmp_path / "nvml.state", gpus=3)
    monkeypatch.setenv("NVML_MOCK_STATE", str(made.path))
    return made


@pytest.fixture
def nvml(built: ctypes.CDLL, state: MockState) -> Iterator[ctypes.CDLL]:
    assert built.nvmlInitWithFlags(0) == SUCCESS
    yield built
    while built.nvmlShutdown() == SUCCESS:
        pass


def handle(nvml: ctypes.CDLL, index: int) -> c_void_p:
    found = c_void_p()
    assert nvml.nvmlDeviceGetHandleByIndex_v2(index, byref(found)) == SUCCESS
    return found


@pytest.mark.parametrize("name", ["nvmlInit", "nvmlInit_v2", "nvmlInitWithFlags"])
def test_the_library_answers_between_init_and_the_last_shutdown(
    built: ctypes.CDLL, state: MockState, name: str
) -> None:
    """Finding N6: UNINITIALIZED before and after, and calls of init are counted."""
    init: Callable[..., int] = getattr(built, name)
    count = c_uint()
    before = built.nvmlDeviceGetCount_v2(byref(count)), built.nvmlShutdown()
    assert (init(0), init(0)) == (SUCCESS, SUCCESS)
    device = handle(built, 0)
    built.nvmlShutdown()
    between = built.nvmlDeviceGetCount_v2(byref(count))
    built.nvmlShutdown()
    minor = c_uint()
    after = (
        built.nvmlDeviceGetCount_v2(byref(count)),
        built.nvmlDeviceGetMinorNumber(device, byref(minor)),
        built.nvmlDeviceGetHandleByIndex_v2(0, byref(c_void_p())),
        built.nvmlDeviceGetHandleByUUID(b"GPU-0", byref(c_void_p())),
        built.nvmlEventSetCreate(byref(c_void_p())),
        built.nvmlShutdown(),
    )

    assert before == (UNINITIALIZED, UNINITIALIZED)
    assert (between, count.value) == (SUCCESS, 3)
    assert after == (UNINITIALIZED,) * 6


@pytest.mark.parametrize(
    ("spelling", "answer"),
    [
        ("00000000:1C:00.0", SUCCESS),
        ("0000:1c:00.0", SUCCESS),
        ("0:1c:0.0", SUCCESS),
        ("0:1c:0", SUCCESS),
        ("1c:00.0", SUCCESS),
        ("1C:0.0", SUCCESS),
        ("0:99:0", NOT_FOUND),
        ("10000:1c:00.0", NOT_FOUND),
        ("1c", INVALID),
        ("1c:00", INVALID),
        ("0000:1c:00.0 ", INVALID),
        ("", INVALID),
        ("GPU-0", INVALID),
    ],
)
def test_a_slot_is_found_by_every_documented_spelling(nvml: ctypes.CDLL, spelling: str, answer: int) -> None:
    """Finding N6."""
    found = c_void_p()

    assert nvml.nvmlDeviceGetHandleByPciBusId_v2(spelling.encode(), byref(found)) == answer
    assert answer != SUCCESS or found.value == handle(nvml, 1).value


def test_a_domain_of_five_digits_is_spelled_and_found(nvml: ctypes.CDLL, state: MockState) -> None:
    """Finding N6: the legacy spelling has room for four."""
    state.set(1, {"bus": "00010000:1C:00.0"})
    found, pci = c_void_p(), Pci()

    assert nvml.nvmlDeviceGetHandleByPciBusId_v2(b"10000:1c:00.0", byref(found)) == SUCCESS
    assert nvml.nvmlDeviceGetPciInfo_v3(found, byref(pci)) == SUCCESS
    assert (pci.domain, pci.bus, pci.device) == (0x10000, 0x1C, 0)
    assert (pci.bus_id, pci.legacy) == (b"00010000:1C:00.0", b"0000:1C:00.0")
    assert (pci.id & 0xFFFF, pci.id >> 16) == (0x10DE, 0x2330)


def test_the_lookup_by_uuid_is_about_any_gpu_and_that_by_slot_about_one(
    nvml: ctypes.CDLL, state: MockState
) -> None:
    """Finding N2."""
    state.set(2, {"return": LOST})
    by_uuid = nvml.nvmlDeviceGetHandleByUUID(MockState.uuid(0).encode(), byref(c_void_p()))
    by_slot = [
        nvml.nvmlDeviceGetHandleByPciBusId_v2(f"0:{0x1B + index:x}:0".encode(), byref(c_void_p()))
        for index in range(3)
    ]

    assert (by_uuid, by_slot) == (LOST, [SUCCESS, SUCCESS, LOST])


def test_memory_adds_up(nvml: ctypes.CDLL, state: MockState) -> None:
    """Finding N6: free and used are parts of the total, of a MIG instance too."""
    state.set(0, {"memory": 1000, "memused": 300})
    state.divide(1, 7)
    instance, shown = c_void_p(), []
    nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle(nvml, 1), 0, byref(instance))
    for device in (handle(nvml, 0), instance):
        memory = Memory()
        assert nvml.nvmlDeviceGetMemoryInfo(device, byref(memory)) == SUCCESS
        assert memory.free + memory.used == memory.total
        shown.append(memory.total)

    assert shown == [1000, 9728 << 20]


@pytest.mark.parametrize(
    ("facts", "answer"),
    [
        ({}, SUCCESS),
        ({"migmode": 0}, SUCCESS),
        ({"migmode": 1}, NOT_SUPPORTED),
        ({"architecture": 6}, NOT_SUPPORTED),
    ],
    ids=str,
)
def test_remapped_rows_are_of_ampere_and_later_without_mig(
    nvml: ctypes.CDLL, state: MockState, facts: dict[str, int | str], answer: int
) -> None:
    """Finding N6."""
    state.set(0, facts)
    rows = [c_uint() for _ in range(4)]

    assert nvml.nvmlDeviceGetRemappedRows(handle(nvml, 0), *map(byref, rows)) == answer


@pytest.mark.parametrize(
    ("architecture", "answer"), [(7, NOT_SUPPORTED), (8, NOT_SUPPORTED), (9, SUCCESS), (10, SUCCESS)]
)
def test_the_fabric_is_of_hopper_and_later(
    nvml: ctypes.CDLL, state: MockState, architecture: int, answer: int
) -> None:
    """Finding N6."""
    state.set(0, {"architecture": architecture})
    info = (c_uint * 12)()
    info[0] = 36 | 2 << 24

    found = nvml.nvmlDeviceGetGpuFabricInfoV(handle(nvml, 0), byref(info))
    assert found == answer


@pytest.mark.parametrize(
    ("field", "kind"), [(91, UNSIGNED_INT), (94, UNSIGNED_INT), (165, UNSIGNED_INT), (52, UNSIGNED_LONG_LONG)]
)
def test_a_field_has_its_own_type_and_nothing_beyond_it(
    nvml: ctypes.CDLL, state: MockState, field: int, kind: int
) -> None:
    """Finding N6: a reader that takes eight bytes of a value of four gets garbage."""
    state.set(0, {f"field.{field}": 3, "linkstate.0": 3})
    value = Field(field=field)

    assert nvml.nvmlDeviceGetFieldValues(handle(nvml, 0), 1, byref(value)) == SUCCESS
    assert (value.ret, value.type, value.value & 0xFFFFFFFF) == (SUCCESS, kind, 3)
    assert (value.value == 3) is (kind == UNSIGNED_LONG_LONG)


@pytest.mark.parametrize(
    ("field", "answer"), [(0, INVALID), (310, INVALID), (65_000, INVALID), (309, NOT_SUPPORTED)]
)
def test_a_field_that_no_driver_has_is_invalid(nvml: ctypes.CDLL, field: int, answer: int) -> None:
    """Finding N6: one that the driver knows and the model lacks is not supported."""
    value = Field(field=field)

    assert nvml.nvmlDeviceGetFieldValues(handle(nvml, 0), 1, byref(value)) == SUCCESS
    assert value.ret == answer


def test_calls_of_mig_instances_do_not_answer_for_a_whole_gpu(nvml: ctypes.CDLL, state: MockState) -> None:
    """Finding N6: and a GPU that is not divided can have no instance."""
    state.divide(1, 7)
    number, instance, parent = c_uint(), c_void_p(), c_void_p()
    whole = handle(nvml, 1)
    nvml.nvmlDeviceGetMigDeviceHandleByIndex(whole, 0, byref(instance))
    calls = ("nvmlDeviceGetGpuInstanceId", "nvmlDeviceGetComputeInstanceId")

    assert [getattr(nvml, call)(whole, byref(number)) for call in calls] == [NOT_SUPPORTED] * 2
    assert [getattr(nvml, call)(instance, byref(number)) for call in calls] == [SUCCESS] * 2
    assert nvml.nvmlDeviceGetAttributes_v2(whole, byref((c_uint * 12)())) == NOT_SUPPORTED
    assert nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(instance, byref(parent)) == SUCCESS
    assert parent.value == whole.value
    nvml.nvmlDeviceGetMaxMigDeviceCount(handle(nvml, 0), byref(number))
    assert number.value == 0
    assert nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle(nvml, 0), 0, byref(instance)) == NOT_SUPPORTED
    uuid = MockState.instance(1, 7).encode()
    assert nvml.nvmlDeviceGetHandleByUUID(uuid, byref(instance)) == SUCCESS
    assert nvml.nvmlDeviceIsMigDeviceHandle(instance, byref(number)) == SUCCESS
    assert number.value == 1


def test_a_text_without_room_and_a_handle_of_nothing_are_refused(nvml: ctypes.CDLL) -> None:
    """Finding N6."""
    room, number = create_string_buffer(8), c_uint()

    assert nvml.nvmlDeviceGetUUID(handle(nvml, 0), room, 8) == TOO_SMALL
    assert nvml.nvmlDeviceGetMinorNumber(c_void_p(64), byref(number)) == INVALID
    assert nvml.nvmlDeviceGetMinorNumber(None, byref(number)) == INVALID
    assert nvml.nvmlDeviceGetHandleByIndex_v2(3, byref(c_void_p())) == INVALID


def test_every_number_of_an_answer_has_words_of_its_own(built: ctypes.CDLL) -> None:
    """Finding N6: and a number that is no answer is an unknown error."""
    text = built.nvmlErrorString
    text.restype, text.argtypes = c_char_p, [c_int]
    words = [text(code) for code in range(31)]

    assert len(set(words)) == 31
    assert {text(code) for code in (999, 31, -1)} == {b"Unknown Error"}
    assert (words[SUCCESS], words[LOST]) == (b"Success", b"GPU is lost")
