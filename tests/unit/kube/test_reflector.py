"""The reflector against the embedded API server: after any fault its copy equals the stored objects."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuvitals.kube.reflector import Reflector
from gpuvitals.kube.reflector_ports import ObjectKey, ReflectorHooks, Selection
from gpuvitals.kube.retry import RetryPolicy
from gpuvitals.kube.transport import ConnectSettings, connect
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals_sim.apiserver import ApiServer, Match
from support.fakes.scripted_server import Answer, scripted

QUICK = RetryPolicy(first_seconds=0.01, cap_seconds=0.05, urgent_cap_seconds=0.05, refused_cap_seconds=0.05)
NODES = Selection(path="/api/v1/nodes", policy=QUICK)
WATCHES = Match(verbs=("watch",))
LISTS = Match(verbs=("list",))


class Copy(ReflectorHooks):
    """The objects that a reflector reported, by name, and the history of keys."""

    def __init__(self) -> None:
        self.objects: dict[str, str] = {}
        self.history: list[tuple[str, bool]] = []

    def changed(self, key: ObjectKey, raw: bytes | None) -> None:
        self.history.append((key[1], raw is not None))
        if raw is None:
            del self.objects[key[1]]
        else:
            self.objects[key[1]] = json.loads(raw)["metadata"]["resourceVersion"]


@contextmanager
def reflecting(url: str, selection: Selection = NODES) -> Iterator[tuple[Reflector, Copy]]:
    copy = Copy()
    reflector = Reflector(selection, connect(ConnectSettings(url=url)), NodeMetrics("test"), copy)
    reflector.start()
    try:
        yield reflector, copy
    finally:
        reflector.stop(5)


def wait(holds: Callable[[], bool], seconds: float = 5.0) -> float:
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, "did not happen in time"
        time.sleep(0.002)
    return time.monotonic() - began


def node(name: str, label: str = "") -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"test": "x", "value": label or "none"}},
    }


def versions(server: ApiServer) -> dict[str, str]:
    listed = server.client("test").list("nodes")
    return {each["metadata"]["name"]: each["metadata"]["resourceVersion"] for each in listed}


def test_an_empty_list_is_a_synced_one() -> None:
    with ApiServer() as server, reflecting(server.url) as (reflector, copy):
        assert reflector.synced.wait(5)
        assert copy.objects == {}


def test_a_list_is_read_in_pages() -> None:
    with ApiServer() as server:
        for index in range(7):
            server.client("test").create("nodes", node(f"n{index}"))
        with reflecting(server.url, replace(NODES, page=3)) as (reflector, copy):
            assert reflector.synced.wait(5)
            assert copy.objects == versions(server)

        queries = [request.query for request in server.requests.select(verb="list")]
    assert len(queries) == 3
    assert all("limit=3" in query for query in queries)
    assert ["continue=" in query for query in queries] == [False, True, True]


def test_a_watch_asks_for_bookmarks_and_goes_on_from_the_list() -> None:
    with ApiServer() as server, reflecting(server.url) as (reflector, _):
        assert reflector.synced.wait(5)
        wait(lambda: bool(server.requests.select(verb="watch")))
        query = server.requests.select(verb="watch")[0].query

    assert "allowWatchBookmarks=true" in query
    assert "resourceVersion=" in query
    assert 300 <= int(query.split("timeoutSeconds=")[1].split("&")[0]) <= 600


def test_a_lost_place_in_history_is_told_as_the_difference_alone() -> None:
    """410 after a gap: only the changes since then are reported."""
    with ApiServer() as server, reflecting(server.url) as (reflector, copy):
        client = server.client("test")
        for name in ("same", "changed", "gone"):
            client.create("nodes", node(name))
        wait(lambda: copy.objects == versions(server))
        copy.history.clear()
        closed = server.faults.fail(503, times=None, match=WATCHES)
        server.faults.drop_watches()
        client.delete("nodes", "gone")
        client.update("nodes", node("changed", "new"))
        client.create("nodes", node("added"))
        server.faults.compact()
        closed.end()
        wait(lambda: copy.objects == versions(server))
        assert reflector.synced.wait(5)

    assert sorted(copy.history) == [("added", True), ("changed", True), ("gone", False)]


def test_a_dropped_watch_goes_on_without_a_list_and_without_repeats() -> None:
    with ApiServer() as server, reflecting(server.url) as (_, copy):
        server.client("test").create("nodes", node("a"))
        wait(lambda: copy.objects == versions(server))
        for name in ("b", "c", "d"):
            server.faults.drop_watches(abrupt=True)
            server.client("test").create("nodes", node(name))
            wait(lambda: copy.objects == versions(server))
        lists = len(server.requests.select(verb="list"))

    assert lists == 1
    assert [name for name, _ in copy.history] == ["a", "b", "c", "d"]


def test_a_half_open_connection_is_given_up() -> None:
    with ApiServer() as server, reflecting(server.url, replace(NODES, silence_seconds=0.3)) as (_, copy):
        server.client("test").create("nodes", node("a"))
        wait(lambda: copy.objects == versions(server))
        server.faults.stall_watches()
        server.client("test").create("nodes", node("b"))
        wait(lambda: len(server.requests.select(verb="watch")) >= 2)
        server.faults.resume_watches()
        wait(lambda: copy.objects == versions(server))


def test_an_outage_is_survived_and_told_as_trouble() -> None:
    with ApiServer() as server, reflecting(server.url) as (reflector, copy):
        assert reflector.synced.wait(5)
        with server.outage():
            wait(lambda: reflector.problem != "")
            server.client("test").create("nodes", node("a"))
        wait(lambda: copy.objects == versions(server))
        wait(lambda: reflector.problem == "")


def test_a_refused_list_is_not_a_hot_loop() -> None:
    with ApiServer() as server:
        server.faults.fail(403, times=None, match=LISTS)
        with reflecting(server.url, replace(NODES, policy=RetryPolicy())) as (reflector, _):
            time.sleep(0.5)
            assert not reflector.synced.is_set()
        assert len(server.requests.select(verb="list")) <= 5


def test_a_nudge_ends_the_wait() -> None:
    slow = RetryPolicy(first_seconds=20, cap_seconds=20, urgent_cap_seconds=20)
    with ApiServer() as server:
        server.faults.fail(503, times=1, match=LISTS)
        with reflecting(server.url, replace(NODES, policy=slow)) as (reflector, _):
            wait(lambda: reflector.problem != "")
            time.sleep(0.05)
            reflector.nudge()
            assert reflector.synced.wait(1)


def test_a_watch_that_ends_at_once_is_not_a_hot_loop() -> None:
    listed = b'{"metadata":{"resourceVersion":"7"},"items":[]}'
    with scripted(lambda method, target: Answer(chunks=() if "watch=" in target else (listed,))) as script:
        with reflecting(script.url, replace(NODES, policy=RetryPolicy())) as (reflector, _):
            assert reflector.synced.wait(5)
            time.sleep(0.5)
        assert len(script.requests) <= 6


@pytest.mark.parametrize(
    "bad", [b'{"metadata":7}', b"[]", b'{"metadata":{"name":"odd","resourceVersion":"3"}}']
)
def test_a_bad_item_is_skipped_and_counted_and_the_others_are_told(bad: bytes) -> None:
    good = b'{"metadata":{"name":"good","resourceVersion":"2"},"spec":{}}'
    page = b'{"metadata":{"resourceVersion":"7"},"items":[' + bad + b"," + good + b"]}"
    lines = (
        b'{"type":"ADDED","object":'
        + bad
        + b'}\n{"type":"ADDED","object":'
        + good.replace(b"2", b"9")
        + b"}\n"
    )
    told: list[str] = []

    class Decoded(msgspec.Struct):
        metadata: dict[str, str]
        spec: dict[str, str]

    class Decoding(ReflectorHooks):
        def changed(self, key: ObjectKey, raw: bytes | None) -> None:
            assert raw is not None
            told.append(msgspec.json.decode(raw, type=Decoded).metadata["resourceVersion"])

    gate = threading.Event()

    def answer(method: str, target: str) -> Answer:
        if "watch=" not in target:
            return Answer(chunks=(page,))
        return Answer(chunks=(lines, b"\n"), pause=lambda: gate.wait(1) if len(told) > 1 else None)

    with scripted(answer) as script:
        metrics = NodeMetrics("test")
        selection = replace(NODES, path="/x")
        reflector = Reflector(selection, connect(ConnectSettings(url=script.url)), metrics, Decoding())
        reflector.start()
        wait(lambda: len(told) >= 2)
        gate.set()
        reflector.stop(5)

    assert told[:2] == ["2", "9"]
    skipped = metrics.registry.get_sample_value("gpuvitals_api_objects_skipped_total", {"resource": "x"})
    assert skipped is not None
    assert skipped >= 1


def test_stop_cuts_a_quiet_watch() -> None:
    with ApiServer() as server, reflecting(server.url) as (reflector, _):
        wait(lambda: bool(server.requests.select(verb="watch")))
        time.sleep(0.05)
        began = time.monotonic()
        reflector.stop(5)

        assert time.monotonic() - began < 1
        assert not any(thread.name == "watch-nodes" for thread in threading.enumerate())


_NAMES = st.sampled_from("abcde")
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), _NAMES),
        st.tuples(st.just("set"), _NAMES),
        st.tuples(st.just("delete"), _NAMES),
        st.tuples(
            st.sampled_from(["compact", "drop", "break", "fail-watch", "fail-list", "settle"]), st.just("")
        ),
    ),
    max_size=25,
)


@pytest.fixture(scope="module")
def shared() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_STEPS)
def test_any_history_with_drops_and_lost_places_ends_in_what_is_stored(
    shared: ApiServer, steps: list[tuple[str, str]]
) -> None:
    with reflecting(shared.url, replace(NODES, page=2)) as (reflector, copy):
        for number, (step, name) in enumerate(steps):
            _take_step(shared, step, (name, str(number)), copy)
        wait(lambda: copy.objects == versions(shared))
        assert reflector.synced.wait(5)
        for name in versions(shared):
            shared.client("test").delete("nodes", name)
        wait(lambda: copy.objects == {})
    present: dict[str, bool] = {}
    for name, is_there in copy.history:
        assert is_there or present.get(name), f"{name} was told gone before it was told"
        present[name] = is_there
    shared.faults.clear()


def _take_step(server: ApiServer, step: str, named: tuple[str, str], copy: Copy) -> None:
    client, (name, label) = server.client("test"), named
    match step:
        case "set" if client.find("nodes", name) is None:
            client.create("nodes", node(name, label))
        case "set":
            client.update("nodes", node(name, label))
        case "delete" if client.find("nodes", name) is not None:
            client.delete("nodes", name)
        case "compact":
            server.faults.compact()
        case "drop" | "break":
            server.faults.drop_watches(abrupt=step == "break")
        case "fail-watch":
            server.faults.fail(410, times=1, match=WATCHES)
        case "fail-list":
            server.faults.fail(410, times=1, match=LISTS)
        case "settle":
            wait(lambda: copy.objects == versions(server))
        case _:
            return  # there is nothing to delete


class Settled(ReflectorHooks):
    """The settled contents with their version, whether history went back, and the names of deleted objects."""

    def __init__(self) -> None:
        self.settlements: list[tuple[list[str], str, bool]] = []
        self.gone: list[str] = []

    def changed(self, key: ObjectKey, raw: bytes | None) -> None:
        if raw is None:
            self.gone.append(key[1])

    def settled(self, objects: Sequence[bytes], resource_version: str, *, rewound: bool) -> None:
        names = sorted(json.loads(raw)["metadata"]["name"] for raw in objects)
        self.settlements.append((names, resource_version, rewound))


def test_a_watch_that_is_due_begins_with_everything_and_settles_what_was_missed() -> None:
    """Finding K3: without a list, so that a fleet at rest asks for none."""
    hooks = Settled()

    def item(name: str, version: int) -> dict[str, object]:
        return {"metadata": {"name": name, "uid": name, "resourceVersion": str(version)}}

    def line(kind: str, thing: dict[str, object]) -> bytes:
        return json.dumps({"type": kind, "object": thing}).encode() + b"\n"

    mark = {"metadata": {"resourceVersion": "40"}}
    older = {"metadata": {"resourceVersion": "20"}}
    ended = threading.Event()

    def answer(method: str, target: str) -> Answer:
        if "watch=true" not in target:
            page = {"metadata": {"resourceVersion": "30"}, "items": [item("a", 5), item("gone", 6)]}
            return Answer(chunks=(json.dumps(page).encode(),))
        assert "resourceVersion=0" in target or ended.is_set()
        lines = [line("ADDED", item("a", 5)), line("ADDED", item("b", 35))]
        ended.set()
        return Answer(chunks=(*lines, line("BOOKMARK", older), line("BOOKMARK", mark)))

    with scripted(answer) as script:
        transport = connect(ConnectSettings(url=script.url))
        reflector = Reflector(
            Selection(path="/things", resync_seconds=0.0),
            transport,
            NodeMetrics("test"),
            hooks,
        )
        reflector.start()
        wait(lambda: len(hooks.settlements) >= 2)
        reflector.stop(5)
        transport.close()

    assert hooks.settlements[:2] == [(["a", "gone"], "30", False), (["a", "b"], "40", False)]
    assert hooks.gone[:1] == ["gone"]


def test_a_server_that_has_not_come_to_our_place_is_listed_anew() -> None:
    """Finding K3: a restored backup takes history back."""
    hooks = Settled()
    places = iter(("900", "40", "40", "40"))

    def answer(method: str, target: str) -> Answer:
        if "watch=true" not in target:
            page = {"metadata": {"resourceVersion": next(places)}, "items": []}
            return Answer(chunks=(json.dumps(page).encode(),))
        if "resourceVersion=900" in target:
            message = {"message": "Too large resource version: 900, current: 40"}
            return Answer(status=504, chunks=(json.dumps(message).encode(),))
        return Answer(chunks=(b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"41"}}}\n',))

    with scripted(answer) as script:
        transport = connect(ConnectSettings(url=script.url))
        reflector = Reflector(
            Selection(path="/things"),
            transport,
            NodeMetrics("test"),
            hooks,
        )
        reflector.start()
        wait(lambda: len(hooks.settlements) >= 2)
        reflector.stop(5)
        transport.close()

    assert hooks.settlements[:2] == [([], "900", False), ([], "40", True)]
