"""`gpuvitals report`: accepts any name of a GPU, and writes entries that the agent can read."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gpuvitals.cli.gpu_names import GpuNames
from gpuvitals.cli.main import main
from gpuvitals.kube.slices.view import DeviceView
from gpuvitals.model.clock import Moment
from gpuvitals.model.gpu_name import normalize_gpu_name
from gpuvitals.model.pci import normalize_bus_id
from gpuvitals.signals.reports.text import Rules, reports_from_json
from gpuvitals_sim.apiserver import ApiServer

Run = Callable[..., tuple[int, str, str]]
KEY = "vitals.internal/override"
UUID = "GPU-5d3c0a11-8e42-4b7f-9c15-0f6a2be71d01"
NAMES = (
    "gpu-0000-3b-00-0",
    "GPU-0000-3B-00-0",
    UUID,
    UUID.lower(),
    "0000:3b:00.0",
    "00000000:3B:00.0",
    "3b:00.0",
    "3B:00",
    "PCI:0000:3b:00",
    "0:3b:0.0",
)
"""Names of one GPU."""


def attributes(uuid: str, bus_id: str) -> dict[str, Any]:
    return {
        "health/xidErrors": {"int": 0},
        "uuid": {"string": uuid},
        "resource.kubernetes.io/pciBusID": {"string": bus_id},
    }


@pytest.fixture
def server() -> Iterator[ApiServer]:
    devices = [
        {"name": "gpu-0000-3b-00-0", "attributes": attributes(UUID, "0000:3b:00.0")},
        {"name": "gpu-0000-5e-00-0", "attributes": attributes(UUID.replace("01", "02"), "0000:5e:00.0")},
    ]
    pool = {"name": "node-a", "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": "gpu.vitals.internal", "nodeName": "node-a", "pool": pool, "devices": devices}
    with ApiServer() as found:
        client = found.client("test")
        client.create("nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}})
        body = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceSlice",
            "metadata": {"name": "00000-x"},
            "spec": spec,
        }
        client.create("resourceslices.resource.k8s.io", body)
        yield found


@pytest.fixture
def report(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = main(("report", "node-a", *arguments, "--server", server.url))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def annotate(server: ApiServer, text: str) -> None:
    server.client("test").patch(
        "nodes", ("", "node-a"), {"metadata": {"annotations": {KEY: text, "other": "kept"}}}
    )


def annotation(server: ApiServer) -> str:
    return str(
        (server.client("test").get("nodes", "node-a")["metadata"].get("annotations") or {}).get(KEY, "")
    )


def entry(gpu: str, **changes: str) -> dict[str, str]:
    year = datetime.now(UTC).year
    return {
        "gpu": gpu,
        "say": "bad",
        "by": "joe",
        "reason": "y",
        "at": f"{year - 1}-01-01T00:00:00Z",
        "expires": f"{year + 1}-01-01T00:00:00Z",
        **changes,
    }


def readable(text: str) -> bool:
    now = Moment(at=0.0, time=datetime.now(UTC))
    return bool(reports_from_json(text.encode(), now, Rules(may_clear=True, must_expire=True)))


@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_that_is_reported_again_by_another_name_has_one_entry(
    name: str, report: Run, server: ApiServer
) -> None:
    """Finding C1."""
    assert report("0000:3b:00.0", "bad", "--reason", "burns")[0] == 0
    code, out, _ = report(name, "degraded", "--reason", "hot")

    assert code == 0
    assert "gpu gpu-0000-3b-00-0: degraded" in out
    assert [each["say"] for each in json.loads(annotation(server))] == ["degraded"]
    assert readable(annotation(server))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_takes_back_what_was_said_by_any_name(name: str, report: Run, server: ApiServer) -> None:
    """Finding C2."""
    for each in NAMES:
        assert report(each, "bad", "--reason", "burns")[0] == 0
        code, out, _ = report(name, "nothing")

        assert (code, annotation(server)) == (0, "")
        assert "report retracted" in out


def test_taking_back_what_nobody_has_said_says_so(report: Run) -> None:
    """Finding C2."""
    assert report(UUID, "nothing")[1] == "node node-a, gpu gpu-0000-3b-00-0: there was no report\n"


@pytest.mark.parametrize("name", ["gpu-9", "0000:77:00.0", "GPU-5d3c0a11-8e42-4b7f-9c15-0f6a2be71dff"])
@pytest.mark.parametrize("say", [("bad", "--reason", "x"), ("nothing",)])
def test_an_unknown_gpu_is_an_error_that_names_those_there_are(
    name: str, say: tuple[str, ...], report: Run, server: ApiServer
) -> None:
    """Finding C2."""
    code, out, err = report(name, *say)

    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"{name}: node node-a has no such GPU; it has gpu-0000-3b-00-0, gpu-0000-5e-00-0" in err
    assert annotation(server) == ""


def test_what_was_said_of_a_gpu_that_is_gone_can_be_taken_back(report: Run, server: ApiServer) -> None:
    """Finding C2."""
    annotate(server, json.dumps([entry("0000:77:00.0")]))

    assert report("77:00.0", "nothing")[0] == 0
    assert annotation(server) == ""


@pytest.mark.parametrize("say", [("bad", "--reason", "x"), ("clear", "--reason", "x"), ("nothing",)])
@pytest.mark.parametrize("gpu", ["gpu-0000-3b-00-0", "gpu-0000-5e-00-0"])
def test_an_annotation_with_one_gpu_twice_is_mended_by_any_report(
    gpu: str, say: tuple[str, ...], report: Run, server: ApiServer
) -> None:
    """Finding C1."""
    twice = [
        entry("0000:3b:00.0", reason="new"),
        entry("00000000:3B:00.0", at="2020-01-01T00:00:00Z", reason="old"),
    ]
    annotate(server, json.dumps(twice))
    code, _, err = report(gpu, *say)
    said = {each["gpu"]: each for each in json.loads(annotation(server) or "[]")}

    assert (code, err) == (0, "")
    assert not said or readable(annotation(server))
    if gpu == "gpu-0000-5e-00-0":
        assert said["0000:3b:00.0"]["reason"] == "new"


BROKEN = [
    "by hand",
    '{"gpu": "gpu-0000-5e-00-0"}',
    json.dumps([entry("gpu-0000-5e-00-0", say="baad"), entry("0000:5e:00.0")]),
    json.dumps([entry("gpu-0000-5e-00-0", expires="9999-12-31T23:59:59-08:00")]),
    json.dumps([{"gpu": 5}, 7, "x"]),
    "[" * 100_000,
]


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
@pytest.mark.parametrize("say", [("bad", "--reason", "x"), ("nothing",)])
def test_what_nobody_can_read_is_kept_until_it_is_to_be_repaired(
    text: str, say: tuple[str, ...], report: Run, server: ApiServer
) -> None:
    """Finding C1."""
    annotate(server, text)
    code, _, err = report("gpu-0000-3b-00-0", *say)

    assert (code, err.count("\n"), annotation(server)) == (1, 1, text)
    assert "add --repair to drop unreadable entries" in err

    code, _, err = report("gpu-0000-3b-00-0", *say, "--repair")

    assert code == 0
    assert f"dropped from {KEY}" in err
    assert not annotation(server) or readable(annotation(server))


def test_a_report_that_would_not_fit_is_not_written(report: Run, server: ApiServer) -> None:
    """Finding C1."""
    many = json.dumps([entry(f"gpu-{number}", reason="x" * 200) for number in range(60)])
    annotate(server, many)
    code, _, err = report("gpu-0000-3b-00-0", "bad", "--reason", "x" * 200)

    assert (code, annotation(server)) == (1, many)
    assert "would have more than 16384 bytes" in err


def test_report_keeps_what_others_said_and_drops_what_has_expired(report: Run, server: ApiServer) -> None:
    annotate(server, json.dumps([entry("gpu-0", expires="2020-01-01T00:00:00Z"), entry("gpu-0000-5e-00-0")]))

    assert report("3b:00.0", "clear", "--reason", "new")[0] == 0
    assert [(each["gpu"], each["say"]) for each in json.loads(annotation(server))] == [
        ("gpu-0000-5e-00-0", "bad"),
        ("3b:00.0", "clear"),
    ]


def test_a_gpu_in_mig_mode_is_known_by_its_instances() -> None:
    instance = DeviceView(
        driver="d",
        node="n",
        device="gpu-0000-3b-00-0-mig-1g-10gb-2",
        uuid="MIG-aaaa",
        bus_id="0000:3b:00.0",
        product="",
        in_service=True,
        parent_uuid=UUID,
    )
    names = GpuNames([instance])

    assert {names.device(name) for name in NAMES} == {"gpu-0000-3b-00-0"}
    assert names.device("mig-AAAA") == instance.device
    assert names.devices == ("gpu-0000-3b-00-0", instance.device)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0000:3b:00.0", "0000:3b:00.0"),
        ("00000001:3B:1f.7", "0001:3b:1f.7"),
        ("10000:01:00.0", "10000:01:00.0"),
        ("0x0000:3b:00.0", "0000:3b:00.0"),
        ("3b:00", "0000:3b:00.0"),
        ("3b", None),
        ("0000:3b:20.0", None),
        ("0000:3b:00.8", None),
        ("gpu-0", None),
        ("", None),
        ("\u0663b:00.0", None),
    ],
)
def test_a_bus_id_has_one_spelling(text: str, found: str | None) -> None:
    assert normalize_bus_id(text) == found
    assert normalize_gpu_name(text) == (found or text.lower())


def publish_report(server: ApiServer, name: str, group: str) -> None:
    """A slice without devices that has the node report of an installation."""
    metadata = {"name": name, "annotations": {f"{group}/node-report": "{}"}}
    pool = {"name": "node-a", "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": f"gpu.{group}", "nodeName": "node-a", "pool": pool, "devices": []}
    body = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": metadata, "spec": spec}
    server.client("test").create("resourceslices.resource.k8s.io", body)


def test_the_annotation_is_that_of_the_installation_on_the_node(report: Run, server: ApiServer) -> None:
    """Finding K9: an agent of another API group reads no annotation of the default one."""
    publish_report(server, "one", "gpus.example.com")

    code, _, _ = report(NAMES[0], "bad", "--reason", "burns")

    annotations = server.client("test").get("nodes", "node-a")["metadata"]["annotations"]
    assert code == 0
    assert list(annotations) == ["gpus.example.com/override"]


def test_of_two_installations_the_one_that_is_meant_has_to_be_named(report: Run, server: ApiServer) -> None:
    """Finding K9."""
    publish_report(server, "one", "gpus.example.com")
    publish_report(server, "two", "other.example.com")

    code, _, error = report(NAMES[0], "bad", "--reason", "burns")
    named, _, _ = report(NAMES[0], "bad", "--reason", "burns", "--api-group", "other.example.com")

    annotations = server.client("test").get("nodes", "node-a")["metadata"]["annotations"]
    assert (code, named) == (2, 0)
    assert "--api-group is missing: node node-a has gpus.example.com, other.example.com" in error
    assert list(annotations) == ["other.example.com/override"]


@pytest.mark.parametrize("node", ["", "\udcff", "Node", "a/b", "-", "a" * 254])
def test_what_is_no_name_of_a_node_is_an_error_of_that_argument(
    node: str, server: ApiServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Finding C2: bytes that are not UTF-8 ended in a traceback."""
    assert main(("report", node, NAMES[0], "nothing", "--server", server.url)) == 2
    assert "argument node" in capsys.readouterr().err


@pytest.mark.parametrize("end", ["z", ".123456789Z", "+0000", "-00:00"])
def test_a_time_that_the_agent_can_read_is_no_trouble_for_a_report(
    end: str, report: Run, server: ApiServer
) -> None:
    """Finding C1: RFC 3339 allows a small z, which ended every later report in a traceback."""
    tomorrow = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:%M:%S}{end}"
    other = {"gpu": "gpu-0000-5e-00-0", "say": "bad", "by": "j", "reason": "r", "expires": tomorrow}
    annotate(server, json.dumps([other, {**other, "at": "2026-01-01t00:00:00z", "gpu": "5e:00.0"}]))

    assert report(NAMES[0], "bad", "--reason", "burns")[0] == 0
    written = server.client("test").get("nodes", "node-a")["metadata"]["annotations"][KEY]
    assert [entry["gpu"] for entry in json.loads(written)] == ["5e:00.0", NAMES[0]]
