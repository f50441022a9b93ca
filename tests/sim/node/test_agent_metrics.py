"""The running agent's interfaces for operators: documented metrics, probes, events."""

import time
import urllib.error
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from gpuvitals.proto import dra_health_v1_pb2
from gpuvitals.proto.dra_health_v1_pb2_grpc import DRAResourceHealthStub
from gpuvitals_sim.apiserver import ApiServer, Match
from support.worlds.agent_node import AgentNode, agent_node
from support.worlds.agent_process import agent
from support.worlds.plugin_world import channel

PROMISED = {
    "gpuvitals_fault_to_publish_seconds_count": set(),
    "gpuvitals_signals_total": {"source", "kind", "verdict"},
    "gpuvitals_signal_gaps_total": {"source"},
    "gpuvitals_devices": {"state"},
    "gpuvitals_device_score": {"bus_id"},
    "gpuvitals_slice_writes_total": {"reason", "code"},
    "gpuvitals_slice_writes_suppressed_total": set(),
    "gpuvitals_pending_faults": set(),
    "gpuvitals_prepare_seconds_count": {"op", "code"},
    "gpuvitals_prepared_claims": set(),
    "gpuvitals_checkpoint_recoveries_total": {"cause"},
    "gpuvitals_nvml_call_seconds_count": {"call"},
    "gpuvitals_nvml_hung": set(),
    "gpuvitals_health_stream_clients": set(),
    "gpuvitals_api_retries_total": {"code"},
    "gpuvitals_build_info": {"version"},
}
"""The least that the agent serves, with its labels."""
MAY_BE_ZERO = {"gpuvitals_pending_faults", "gpuvitals_nvml_hung"}
EVENTS = "events.events.k8s.io"

Samples = dict[str, list[tuple[dict[str, str], float]]]


def get(node: AgentNode, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{node.agent.probes()}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def scraped(node: AgentNode) -> Samples:
    code, text = get(node, "/metrics")
    assert code == 200
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
    return found


def tear_memory(folder: Path) -> None:
    (folder / "plugins" / "gpuvitals").mkdir(parents=True)
    (folder / "plugins" / "gpuvitals" / "health.json").write_bytes(b"\0" * 40)


def test_every_promised_metric_is_served_with_its_labels_and_fed_by_what_happens(server: ApiServer) -> None:
    with agent_node(server, tear_memory) as node:
        node.hold("held", 1)
        server.faults.fail(503, times=1, match=Match(resource="resourceslices", verbs=("update",)))
        node.gpus.kernel_line("NVRM: Xid (PCI:0000:1b:00): 79, spoofed", priority=12)
        sequence = node.gpus.kernel_line("usb 1-1: new device")
        with (node.folder / "kmsg").open("a") as log:
            log.write(f"6,{sequence + 10},1,-;usb 1-1: after a gap\n")
        node.gpus.set(2, {"ecc_uncorrected_aggregate": None})
        node.burst(3)
        node.agent.wait(lambda: node.shows(3, "Unhealthy"))
        with channel(node.endpoint) as opened:
            stream = DRAResourceHealthStub(opened).NodeWatchResources(
                dra_health_v1_pb2.NodeWatchResourcesRequest(), timeout=20
            )
            next(iter(stream))
            node.agent.wait(lambda: scraped(node)["gpuvitals_health_stream_clients"][0][1] == 1)
            node.agent.wait(lambda: scraped(node)["gpuvitals_slice_writes_suppressed_total"][0][1] > 0)
            samples = scraped(node)
            stream.cancel()

    assert {name: set(entries[0][0]) for name, entries in samples.items() if name in PROMISED} == PROMISED
    fed = {name for name in PROMISED if any(value > 0 for _, value in samples[name])}
    assert PROMISED.keys() - fed <= MAY_BE_ZERO
    kinds = {(labels["kind"], labels["verdict"]) for labels, _ in samples["gpuvitals_signals_total"]}
    assert {("XidReport", "folded"), ("Reading", "folded"), ("line", "spoofed")} <= kinds
    assert {labels["call"] for labels, _ in samples["gpuvitals_nvml_call_seconds_count"]} >= {"open", "read"}
    assert ({"cause": "torn-state"}, 1.0) in samples["gpuvitals_checkpoint_recoveries_total"]
    assert not any(
        "claim" in labels or "pod" in labels for entries in samples.values() for labels, _ in entries
    )


def test_a_fault_is_an_event_on_the_node_and_on_the_claim_that_holds_the_gpu(server: ApiServer) -> None:
    with agent_node(server) as node:
        node.hold("held", 3)
        node.hold("other", 4)
        node.burst(3)
        client = server.client("test")

        def told() -> set[tuple[str, str]]:
            events = [event for event in client.list(EVENTS) if event["reason"] == "GpuUnhealthy"]
            return {(event["regarding"]["kind"], event["regarding"]["name"]) for event in events}

        node.agent.wait(lambda: len(told()) == 2)
        time.sleep(0.5)
        (about_node,) = (
            event
            for event in client.list(EVENTS)
            if event["reason"] == "GpuUnhealthy" and event["regarding"]["kind"] == "Node"
        )

        assert told() == {("Node", "node-a"), ("ResourceClaim", "held")}
        assert about_node["regarding"]["uid"] == "node-a"
        assert node.gpus.gpus[3].bus_id in about_node["note"]


def test_liveness_follows_the_loop_and_readiness_the_published_state(
    server: ApiServer,
) -> None:
    with agent_node(server) as node:
        node.agent.wait(lambda: get(node, "/readyz") == (200, "ok\n"))
        assert get(node, "/livez") == (200, "ok\n")
        server.faults.fail(403, times=None, match=Match(resource="resourceslices", verbs=("update",)))
        node.burst(3)
        node.agent.wait(lambda: get(node, "/readyz")[0] == 503)

        assert "403" in get(node, "/readyz")[1]
        assert get(node, "/livez") == (200, "ok\n")
        node.agent.wait(
            lambda: "SliceRefused" in {event["reason"] for event in server.client("test").list(EVENTS)}
        )


def test_a_restart_of_the_agent_writes_no_slice_and_forgets_no_taint(server: ApiServer) -> None:
    with agent_node(server) as node:
        node.burst(3)
        node.agent.wait(lambda: node.shows(3, "Unhealthy"))
        time.sleep(1.5)
        before = node.agent.slices()
        node.agent.end()
        node.server.requests.clear()
        with agent(node.folder, server, node.gpus) as heir:
            heir.register()
            time.sleep(6)

            assert [entry.method for entry in node.slice_writes()] == []
            assert heir.slices() == before
