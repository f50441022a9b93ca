"""Bad inputs: objects over the API's limits, and stored objects that the API should have refused."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from gpuvitals.inventory.claims import ClaimEntry, ConditionStatus
from gpuvitals.inventory.naming import Naming
from gpuvitals.inventory.pool import PoolSpec
from gpuvitals.inventory.taints import ServiceMode
from gpuvitals.kube.claim_writer import ClaimStatusWriter
from gpuvitals.kube.slices.ports import PublisherSettings
from gpuvitals.kube.slices.publisher import SlicePublisher
from gpuvitals.kube.transport import ConnectSettings, connect
from gpuvitals.observability.metrics import NodeMetrics
from gpuvitals_sim.apiserver import ApiServer
from support.claims import allocated_claim, entry, reference
from support.fakes.scripted_server import Answer, scripted
from support.waiting import eventually
from support.worlds.publisher_world import Progress
from support.worlds.snapshots import snapshot

NAMING = Naming()
CLAIMS = "resourceclaims.resource.k8s.io"
SLICES = "resourceslices.resource.k8s.io"


def long_named() -> PoolSpec:
    """A GPU whose every text is far over the API's 64 characters."""
    node = snapshot(1)
    gpu = replace(node.gpus[0].gpu, product_name="ä" * 200, architecture="x" * 200, brand="y" * 200)
    return PoolSpec(snapshot=replace(node, gpus=(replace(node.gpus[0], gpu=gpu),)), naming=NAMING)


def test_an_attribute_over_64_characters_is_cut_and_the_server_takes_the_slice() -> None:
    with ApiServer() as server:
        client = server.client("test")
        client.create("nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}})
        with publishing(server.url, NodeMetrics("test")) as (publisher, published):
            publisher.publish(long_named(), 1)
            eventually(lambda: published == [1])
        (device,) = client.list(SLICES)[0]["spec"]["devices"]
        answers = [request.status for request in server.requests.writes(resource="resourceslices")]

    assert answers == [201]
    texts = [value["string"] for value in device["attributes"].values() if "string" in value]
    assert all(len(text.encode()) <= 64 for text in texts)
    assert len(device["attributes"]) + len(device["capacity"]) <= 32


STORED = (
    b'{"metadata": {"name": "00000-y", "resourceVersion": "11"}, "spec": {"driver": "gpu.vitals.internal", '
    b'"pool": {"name": "node-a", "generation": 1, "resourceSliceCount": 1}}}'
)
BROKEN = b'{"metadata": {"name": "00000-x", "resourceVersion": "5"}, "spec": {"pool": {"name": 7}}}, {"spec": 1}, {}'


def test_a_stored_slice_with_missing_fields_is_skipped_and_counted_and_stops_nobody() -> None:
    """Both by the watch's list, and by the one that is read again after an error."""
    refusals = [Answer(status=500)]

    def answer(method: str, target: str) -> Answer:
        if "nodes" in target:
            return Answer(chunks=(b'{"metadata": {"uid": "u"}}',))
        if "watch" in target:
            return Answer(chunks=(b"",), pause=lambda: time.sleep(0.2))
        if method == "GET":
            return Answer(chunks=(b'{"metadata": {"resourceVersion": "9"}, "items": [' + BROKEN + b"]}",))
        return refusals.pop() if refusals else Answer(status=201, chunks=(STORED,))

    metrics = NodeMetrics("test")
    with scripted(answer) as script, publishing(script.url, metrics) as (publisher, published):
        publisher.publish(PoolSpec(snapshot=snapshot(0), naming=NAMING), 1)
        eventually(lambda: published == [1])

    skipped = metrics.registry.get_sample_value(
        "gpuvitals_api_objects_skipped_total", {"resource": "resourceslices"}
    )
    assert skipped is not None
    assert skipped >= 6


@contextmanager
def publishing(url: str, metrics: NodeMetrics) -> Iterator[tuple[SlicePublisher, list[int]]]:
    transport = connect(ConnectSettings(url=url))
    settings = PublisherSettings(
        driver=NAMING.driver,
        node="node-a",
        annotation=NAMING.node_report,
        mode=ServiceMode.TAINT,
    )
    progress = Progress()
    publisher = SlicePublisher(settings, transport, metrics, progress)
    publisher.start()
    publisher.set_kubelet_connected(True)
    try:
        yield publisher, progress.published
    finally:
        publisher.stop(5)


def test_a_claim_status_over_the_limits_is_cut_and_the_server_takes_it() -> None:
    with ApiServer() as server:
        claim = reference(allocated_claim(server))
        writer = ClaimStatusWriter(connect(ConnectSettings(url=server.url)), NodeMetrics("test"))
        writer.start()
        try:
            writer.show({claim: (oversized(),)})
            eventually(lambda: bool(patches(server)))
        finally:
            writer.stop(5)
        (device,) = server.client("test").get(CLAIMS, "c", "default")["status"]["devices"]

    assert patches(server) == [200]
    assert len(device["conditions"][0]["message"]) == 1024
    assert len(device["data"]["uuid"]) == 1024


def oversized() -> ClaimEntry:
    base = entry(ConditionStatus.FALSE, "Xid79")
    condition = replace(base.conditions[0], message="m" * 50_000)
    return replace(base, conditions=(condition,), data=(("uuid", "u" * 20_000), ("score", 0)))


def patches(server: ApiServer) -> list[int]:
    return [
        entry.status for entry in server.requests.writes(resource="resourceclaims") if entry.method == "PATCH"
    ]
