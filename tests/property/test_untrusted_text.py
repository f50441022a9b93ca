"""No text that others wrote raises anything but the error that its parser documents.

Each case is a parser with a well-formed text. The examples are near misses of that text: dates at the limits of the
calendar, numbers beyond every size, nesting without end, lone surrogates, NaN, doubled keys, long strings, binary.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuvitals.config import ConfigError, load_config
from gpuvitals.durable import DurableFile
from gpuvitals.inventory.naming import Naming
from gpuvitals.kube.claim_reader import ClaimReader
from gpuvitals.kube.errors import ApiError, error_from_answer
from gpuvitals.kube.other_drivers import other_driver_devices
from gpuvitals.kube.policy_watch import PolicyError, policy_rule
from gpuvitals.kube.slices.codec import observed_slices
from gpuvitals.kube.slices.recall import shown_verdicts
from gpuvitals.kube.slices.view import published_view
from gpuvitals.kube.transport import Call
from gpuvitals.kubeletplugin.cdi.spec import is_ours, recorded_claim
from gpuvitals.kubeletplugin.checkpoint.format import claim_from_text, decode, encode
from gpuvitals.kubeletplugin.claims.opaque_config import parse
from gpuvitals.kubeletplugin.outcome import RefusedError
from gpuvitals.lint.documents import BadInput, documents
from gpuvitals.model.ids import BootId
from gpuvitals.model.signal import Source
from gpuvitals.node.memory_format import contents
from gpuvitals.node.policy_memory import read_policies
from gpuvitals.node.report_annotations import AnnotationPorts, ReportAnnotations
from gpuvitals.node.reports import RefusedReports
from gpuvitals.node.storage import StorageReport
from gpuvitals.node.taint_times import TaintTimes
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals.signals.dcgm_text import DcgmTextError, dcgm_gpus
from gpuvitals.signals.kmsg.decode import kernel_signal
from gpuvitals.signals.kmsg.record import header_seconds, header_sequence, kmsg_record, noise_sequence
from gpuvitals.signals.kmsg.xid_line import XidClassifier
from gpuvitals.signals.recording import event_line, signal_of_event
from gpuvitals.signals.reports.text import (
    ReportError,
    Rules,
    reports_from_json,
    reports_from_lines,
)
from support.fakes.agent_ports import Role
from support.fakes.event_log import EventLog
from support.hypothesis.hostile_documents import LEVELS, OPENINGS, hostile_bytes, hostile_lines
from support.long_runs import share
from support.signals import moment, xid
from support.worlds.agent_world import AgentWorld, fault, reading

NAMING, NOW = Naming(), moment(1000)
REPORTS = [
    {
        "gpu": "gpu-0000-3b-00-0",
        "say": "bad",
        "by": "jane",
        "reason": "ticket 123",
        "at": "2026-11-24T00:10:00Z",
        "expires": "2026-12-01T00:00:00Z",
    },
    {"gpu": "0000:3b:00.0", "say": "clear", "by": "j", "reason": "r", "at": "2026-11-24T00:10:00Z"},
]
CONFIG = {"apiVersion": "vitals.internal/v1alpha1", "kind": "GpuConfig", "env": {"NCCL_DEBUG": "INFO"}}
CHECKPOINT = {
    "schema": 1,
    "boot": "boot-1",
    "claims": [
        {
            "namespace": "ml",
            "name": "train",
            "uid": "11111111-2222-3333-4444-555555555555",
            "time": "2026-11-24T00:10:00+00:00",
            "devices": [
                {
                    "uuid": "GPU-1",
                    "device": "gpu-0000-3b-00-0",
                    "minor": 0,
                    "requests": ["gpu"],
                    "env": {"NCCL_DEBUG": "INFO"},
                    "mig": [7, 0],
                }
            ],
        }
    ],
    "tombstones": [{"uid": "1", "at": 12.5}],
    "quarantined": ['{"uid": "2"}'],
}
CDI = {
    "kind": "gpu.vitals.internal/claim",
    "annotations": {
        "vitals.internal/boot": "boot-1",
        "vitals.internal/prepared": json.dumps(CHECKPOINT["claims"][0]),  # type: ignore[index]
    },
}
POLICY = {
    "metadata": {"name": "a"},
    "spec": {
        "match": {"nodeLabels": {"a": "b"}, "deviceAttributes": {"productName": "x"}},
        "priority": 1,
        "mode": "Isolate",
        "pause": False,
        "health": {},
    },
}
RULE = {"name": "a", "priority": 1, "mode": "Isolate", "health": [["dwell_seconds", 300]]}
POLICIES = {
    "schema": 1,
    "rules": {"a": RULE},
    "labels": {"a": "b"},
    "choices": {"GPU-1": {"rule": RULE, "tied": []}},
}
SLICES = {
    "metadata": {"resourceVersion": "7"},
    "items": [
        {
            "metadata": {
                "name": "0000abcd-x",
                "uid": "u",
                "resourceVersion": "5",
                "annotations": {NAMING.node_report: '{"bootID": "b", "withdrawn": [{"uuid": "GPU-2"}]}'},
                "ownerReferences": [{"uid": "n", "controller": True}],
            },
            "spec": {
                "driver": "gpu.vitals.internal",
                "nodeName": "node-a",
                "pool": {"name": "node-a", "generation": 1, "resourceSliceCount": 1},
                "devices": [
                    {
                        "name": "gpu-0",
                        "attributes": {
                            "uuid": {"string": "GPU-1"},
                            "health/state": {"string": "Unhealthy"},
                            "health/score": {"int": 0},
                            "health/lastXid": {"int": 95},
                            "health/xidErrors": {"int": 1},
                        },
                        "capacity": {"memory": {"value": "80Gi"}},
                        "taints": [
                            {
                                "key": "gpu.vitals.internal/unhealthy",
                                "value": "Xid95",
                                "effect": "NoSchedule",
                                "timeAdded": "2026-11-24T00:10:00Z",
                            }
                        ],
                    }
                ],
            },
        }
    ],
}
CLAIM = {
    "metadata": {"uid": "u", "deletionTimestamp": None},
    "spec": {},
    "status": {
        "allocation": {
            "devices": {
                "results": [
                    {
                        "request": "gpu",
                        "driver": "d",
                        "pool": "p",
                        "device": "x",
                        "tolerations": [{"key": "k"}],
                    }
                ],
                "config": [
                    {"source": "FromClaim", "requests": [], "opaque": {"driver": "d", "parameters": CONFIG}}
                ],
            }
        },
        "reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}],
    },
}
SETTINGS = {"driver": "gpu.example.com", "poll_seconds": 5.0, "policy": {"dwell_seconds": 60}}
KMSG = (
    "6,1234,98765432,-;NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, name=python, GPU has fallen off the bus.",
    "6,1235,98765433,-;NVRM: Xid (PCI:0000:3b:00 GPU-I:05): 94, pid='<unknown>', Contained: SM (0x1).",
    "6,1236,98765434,-;NVRM: GPU at PCI:0000:3b:00: GPU-604ac76c-d9cf-fef3-62e9-d92044ab6e52",
    "6,1237,98765435,-;NVRM: Xid (PCI:0000:3b:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset)",
    "6,1238,98765436,-;nvidia-nvswitch0: SXid (PCI:0000:05:00.0): 12028, Fatal, Link 32 egress non-posted",
    "6,1239,98765437,-;NVRM: Xid (PCI:0000:3b:00): 74, pid=1, NVLink: fatal error detected on link 3(0x0, 0x1, 0x0)",
    "6,1240,98765438,-;NVRM: Xid (PCI:0018:01:00): 149, NETIR_LINK_EVT Fatal XC0 i0 Link 00 (0x004505c6 0x00000000)",
)
DCGM = (
    '# TYPE DCGM_FI_DEV_XID_ERRORS gauge\nDCGM_FI_DEV_XID_ERRORS{gpu="0",UUID="GPU-1",device="nvidia0"} 79',
    'DCGM_FI_DEV_ECC_DBE_VOL_TOTAL{gpu="0",UUID="GPU-1"} 3 1700000000000\n',
    '# TYPE DCGM_FI_DEV_CLOCKS_EVENT_REASONS gauge\nDCGM_FI_DEV_CLOCKS_EVENT_REASONS{UUID="GPU-1"} 8\n',
)
WORDS = ("gpu-0000-3b-00-0 bad ticket 123\n0000:3b:00.0 degraded slow; GPU-1 bad x", "# nothing\n\n")


class Answers:
    """A transport that answers every request with one body."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def request(self, call: Call) -> bytes:
        return self._body


@dataclass(frozen=True)
class Case:
    """A parser, its documented errors, and a well-formed text. `levels` is the nesting of the 500 examples."""

    parse: Callable[[Any], object]
    errors: tuple[type[Exception], ...]
    whole: Any
    levels: int = LEVELS


def read_claim(body: bytes) -> object:
    return ClaimReader(Answers(body)).read("ml", "train")  # type: ignore[arg-type]  # as much of one as is used


def read_settings(text: bytes) -> object:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "node.yaml"
        path.write_bytes(text)
        return load_config(path)


def read_two_slots(text: bytes) -> object:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "taints.json"
        path.write_bytes(text)
        (Path(folder) / "taints.json.2").write_bytes(text[::-1])
        assert DurableFile(path).load().payload is None
        return TaintTimes(path, StorageReport(EventLog())).load()


def read_taints(text: bytes) -> object:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "taints.json"
        DurableFile(path).save(text)
        return TaintTimes(path, StorageReport(EventLog())).load()


def read_annotation(text: str) -> object:
    """An annotation is parsed into reports or rejected with one message."""
    told: list[Any] = []
    events = EventLog()
    with tempfile.TemporaryDirectory() as folder:
        ports = AnnotationPorts(
            refused=RefusedReports(events, NodeMetrics("test")), role=Role(), storage=StorageReport(events)
        )

        class Sink:
            def put(self, signal: object) -> None:
                told.append(signal)

        class Clock:
            def now(self) -> Any:
                return NOW

        reader = ReportAnnotations(NAMING, Path(folder) / "statements.json", Clock(), Sink(), ports)
        reader.update({NAMING.report: text, NAMING.override: text})
    return told + events


def read_kmsg(line: str) -> object:
    raw = line.encode("utf-8", "surrogatepass")
    noise_sequence(raw), header_sequence(raw), header_seconds(raw)
    record = kmsg_record(raw)
    return None if record is None else kernel_signal(XidClassifier().classify(record), NOW, record.sequence)


def read_dcgm(text: str) -> object:
    return [(gpu.hardware_slowdown(), gpu.count("x"), gpu.flag("x")) for gpu in dcgm_gpus(text).values()]


def read_recorded(line: bytes) -> object:
    entry = json.loads(line)
    return signal_of_event(entry) if isinstance(entry, dict) else None


JSON = (msgspec.DecodeError,)
CASES = {
    "reports": Case(
        lambda text: reports_from_json(text, NOW, Rules(may_clear=True)), (ReportError,), REPORTS
    ),
    "opaque configuration": Case(lambda text: parse(text, "config 0", NAMING), (RefusedError,), CONFIG),
    "checkpoint": Case(lambda text: encode(decode(text, BootId("boot-1"))), (ValueError,), CHECKPOINT),
    "cdi file": Case(
        lambda text: (is_ours(text, NAMING), recorded_claim(text, NAMING, BootId("boot-1"))), (), CDI
    ),
    "claim in a cdi file": Case(
        lambda text: claim_from_text(text.decode("utf-8", "replace")),
        (ValueError, KeyError, TypeError),
        CHECKPOINT["claims"][0],  # type: ignore[index]
    ),
    "policy object": Case(policy_rule, (PolicyError,), POLICY),
    "policies file": Case(read_policies, JSON, POLICIES),
    "taints file": Case(read_taints, (), [[["gpu-0", "k", "v", "NoSchedule"], "2026-11-24T00:10:00Z"]]),
    "spoiled file": Case(read_two_slots, (), {"generation": 1, "checksum": "sha256:0", "payload": {}}),
    "own slices": Case(lambda body: observed_slices(body, NAMING.node_report), JSON, SLICES),
    "published verdicts": Case(lambda body: shown_verdicts(body, NAMING), JSON, SLICES),
    "slices for status": Case(lambda body: published_view([body]), JSON, SLICES),
    "other driver's slice": Case(lambda body: list(other_driver_devices(body)), JSON, SLICES["items"][0]),
    "claim": Case(read_claim, (ApiError,), CLAIM),
    "error of the api server": Case(
        lambda body: error_from_answer(422, body, "1", "x"),
        (),
        {
            "message": "m",
            "reason": "Invalid",
            "details": {"causes": [{"field": "f"}], "retryAfterSeconds": 1},
        },
    ),
    # PyYAML takes half a second for the full nesting.
    "settings": Case(read_settings, (ConfigError,), SETTINGS, levels=200),
    "linted file": Case(lambda text: documents(text.decode("utf-8", "replace")), (BadInput,), [POLICY], 200),
}
LINES = {
    "kernel log": Case(read_kmsg, (), KMSG),
    "dcgm exporter": Case(read_dcgm, (DcgmTextError,), DCGM),
    "short reports": Case(lambda text: reports_from_lines(text, Rules(by="x")), (ReportError,), WORDS),
    "annotation": Case(read_annotation, (), (*WORDS, json.dumps(REPORTS))),
}
RELAXED = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def check(case: Case, text: bytes | str) -> None:
    message = ""
    try:
        case.parse(text)
    except case.errors as error:
        message = str(error)
    # Most of them become events and log lines.
    assert len(message) < 5000


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@settings(RELAXED, max_examples=500)
@given(data=st.data())
def test_a_hostile_document_is_its_parsers_own_error(case: Case, data: st.DataObject) -> None:
    """Finding R2: every parser of a document."""
    check(case, data.draw(hostile_bytes(case.whole, case.levels)))


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_endless_nesting_is_its_parsers_own_error(case: Case, opening: bytes) -> None:
    """Finding R2: each parser meets the full nesting in every run."""
    check(case, opening * LEVELS)


@pytest.mark.parametrize("case", LINES.values(), ids=LINES)
@settings(RELAXED, max_examples=500)
@given(data=st.data())
def test_a_hostile_line_is_its_parsers_own_error(case: Case, data: st.DataObject) -> None:
    """Finding R2: every parser of lines."""
    check(case, data.draw(hostile_lines(case.whole)))


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("case", [*CASES.values(), *LINES.values()], ids=[*CASES, *LINES])
@settings(RELAXED, max_examples=share(10_000))
@given(data=st.data())
def test_ten_thousand_hostile_texts_are_their_parsers_own_errors(case: Case, data: st.DataObject) -> None:
    """Finding R2."""
    hostile = hostile_lines if case in LINES.values() else hostile_bytes
    check(case, data.draw(hostile(case.whole)))


@settings(RELAXED, max_examples=500)
@given(data=st.data())
def test_a_hostile_recording_is_its_readers_own_error(data: st.DataObject) -> None:
    """Finding R2: a recording of signals, which a replay reads."""
    whole = json.loads(event_line(xid(79, 1000, source=Source.KMSG), NOW.time))
    text = data.draw(hostile_bytes(whole))
    try:
        read_recorded(text)
    except (ValueError, RecursionError):
        return


def stored_memory() -> Any:
    """The payload of a state file with a failed GPU."""
    with tempfile.TemporaryDirectory() as folder:
        world = AgentWorld(Path(folder), gpus=2)
        world.begin()
        world.turn(1010, fault(1, 95, 1010))
        world.turn(1060, reading(0, 1060), reading(1, 1060))
        payload = DurableFile(Path(folder) / "state.json").load().payload
        assert payload is not None
        return json.loads(payload)


MEMORY = stored_memory()


def start_with(text: bytes) -> None:
    """The agent starts with whatever is in its file, sees its GPUs, and saves."""
    contents(text, "state.json")
    with tempfile.TemporaryDirectory() as folder:
        DurableFile(Path(folder) / "state.json").save(text)
        world = AgentWorld(Path(folder), gpus=2)
        world.begin(1100)
        world.turn(1150, reading(0, 1150), reading(1, 1150))
        assert len(world.published[-1].gpus) >= 2


@settings(RELAXED, max_examples=500)
@given(data=st.data())
def test_an_agent_starts_with_a_hostile_state_file(data: st.DataObject) -> None:
    """Finding R2, Finding R10: the file is read, judged and written again."""
    start_with(data.draw(hostile_bytes(MEMORY)))


@pytest.mark.long
@pytest.mark.timeout(1200)
@settings(RELAXED, max_examples=share(10_000))
@given(data=st.data())
def test_an_agent_starts_with_ten_thousand_hostile_state_files(data: st.DataObject) -> None:
    """Finding R2, Finding R10."""
    start_with(data.draw(hostile_bytes(MEMORY)))
