"""The simulated kubelet with a small plugin on real sockets and the embedded API server."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from gpuvitals_sim.apiserver import ApiServer, DeleteOptions, InProcessClient
from gpuvitals_sim.kubelet import Kubelet, KubeletConfig, KubeletTimings
from support.dra_objects import (
    CLAIMS,
    SLICES,
    Json,
    claim,
    condition,
    eventually,
    gpu,
    pod,
    resource_slice,
)
from support.fakes.dra_plugin import DRIVER, Behaviour, TinyPlugin

NODE = "node-a"
QUICK = KubeletTimings(
    registration_tick_seconds=0.05,
    registration_backoff_seconds=0.1,
    call_seconds=2.0,
    wiping_delay_seconds=0.6,
    startup_wipe_seconds=0.05,
    pod_sync_min_seconds=1.0,
    pod_sync_max_seconds=1.2,
    unprepare_first_retry_seconds=0.05,
    unprepare_retry_seconds=0.1,
    container_retry_seconds=0.1,
    termination_seconds=0.05,
    health_retry_seconds=0.2,
    health_coalesce_seconds=0.1,
    reconcile_seconds=0.2,
    redial_seconds=0.05,
)


@dataclass
class Site:
    """A node with its kubelet, and the plugins that a test starts on it."""

    root: Path
    client: InProcessClient
    kubelet: Kubelet
    plugins: list[TinyPlugin] = field(default_factory=list)

    def plugin(
        self, name: str = "one", behaviour: Behaviour | None = None, *, wait: bool = True
    ) -> TinyPlugin:
        """A plugin; with `wait` registered and connected."""
        plugin = TinyPlugin(self.root, NODE, self.root / "cdi", name, behaviour)
        self.plugins.append(plugin)
        if wait:
            eventually(lambda: self.view(plugin).connected or None, f"plugin {name} connected")
        return plugin

    def view(self, plugin: TinyPlugin) -> "object":
        views = [one for one in self.kubelet.plugins() if one.endpoint == str(plugin.endpoint)]
        return views[-1] if views else _Absent()

    def run_pod(self, name: str, *claims: str, **more: object) -> Json:
        """A pod on the node whose claims are allocated gpu-0, as a scheduler leaves it."""
        created = self.client.create("pods", pod(name, *claims, node=NODE, grace_seconds=1, **more))  # type: ignore[arg-type]  # keywords of pod()
        for used in claims:
            self.reserve(used, created)
        return created

    def reserve(self, name: str, user: Json) -> None:
        """Allocates the claim unless it is, and reserves it for the pod."""
        stored = self.client.find(CLAIMS, name, "default") or self.client.create(CLAIMS, claim(name))
        result = {"request": "gpu", "driver": DRIVER, "pool": NODE, "device": "gpu-0"}
        status = stored.get("status") or {"allocation": {"devices": {"results": [result]}}}
        consumer = {"resource": "pods", "name": user["metadata"]["name"], "uid": user["metadata"]["uid"]}
        status = {**status, "reservedFor": [*(status.get("reservedFor") or ()), consumer]}
        self.client.update_status(CLAIMS, {**stored, "status": status})

    def pod(self, name: str) -> Json | None:
        return self.client.find("pods", name, "default")

    def running(self, name: str) -> Json:
        """The pod once it is Running."""
        return eventually(
            lambda: (
                found if (found := self.pod(name)) and found["status"].get("phase") == "Running" else None
            ),
            f"{name} running",
        )

    def health(self, name: str) -> list[Json]:
        """allocatedResourcesStatus of the pod's container."""
        statuses = (self.pod(name) or {}).get("status", {}).get("containerStatuses") or [{}]
        return list(statuses[0].get("allocatedResourcesStatus") or ())

    def shows(self, name: str, health: str, message: str | None = None) -> Json:
        """The device's entry once it shows this."""

        def look() -> Json | None:
            entry = next((one for part in self.health(name) for one in part["resources"]), {})
            fits = entry.get("health") == health and (message is None or entry.get("message") == message)
            return entry if fits else None

        return eventually(look, f"{name} shows {health} {message}")

    def event(self, text: str) -> Json:
        return eventually(
            lambda: next(
                (one for one in self.client.list("events", "default") if text in one["message"]), None
            ),
            text,
        )


class _Absent:
    connected = False
    favourite = False


@pytest.fixture
def root() -> Iterator[Path]:
    """A kubelet root whose sockets fit the 107 bytes of a path; pytest's own folders are too long."""
    with tempfile.TemporaryDirectory(prefix="gv-") as folder:
        yield Path(folder)


@pytest.fixture
def site(root: Path) -> Iterator[Site]:
    with ApiServer() as server:
        config = KubeletConfig(node_name=NODE, root=root, cdi_dirs=(root / "cdi",), timings=QUICK, seed=7)
        site = Site(root, server.client("test"), Kubelet(config, server.url))
        site.kubelet.start()
        try:
            yield site
        finally:
            site.kubelet.stop()
            for plugin in site.plugins:
                plugin.stop()


def test_the_node_is_registered_and_ready(site: Site) -> None:
    ready = eventually(lambda: condition(site.client.find("nodes", NODE), "Ready") or None, "node ready")
    assert ready["status"] == "True"


def test_registration_uses_the_plugins_order_for_dra_and_its_own_for_health(site: Site) -> None:
    versions = (
        "v2.DRAPlugin",
        "v1beta1.DRAPlugin",
        "v1.DRAPlugin",
        "v1alpha1.DRAResourceHealth",
        "v1.DRAResourceHealth",
    )
    plugin = site.plugin(behaviour=Behaviour(versions=versions))
    assert "notify True " in plugin.calls.entries
    view = site.kubelet.plugins()[0]
    assert (view.dra_version, view.health_version, view.favourite) == ("v1beta1", "v1", True)
    eventually(lambda: plugin.calls.count("health v1") or None, "health stream")


def test_a_plugin_without_dra_service_is_refused_with_the_real_text_and_asked_again(site: Site) -> None:
    plugin = site.plugin(behaviour=Behaviour(versions=("v2.DRAPlugin",)), wait=False)
    eventually(lambda: plugin.calls.count("notify False") >= 2 or None, "refused twice")
    assert plugin.calls.entries[1] == (
        'notify False none of services supported by the plugin (["v2.DRAPlugin"]) are supported by the kubelet '
        '(["v1.DRAPlugin" "v1beta1.DRAPlugin"])'
    )


@pytest.mark.parametrize("failing", ["get_info_error", "notify_error"])
def test_a_failed_handshake_is_repeated(site: Site, failing: str) -> None:
    does = Behaviour()
    setattr(does, failing, True)
    plugin = site.plugin(behaviour=does, wait=False)
    eventually(lambda: plugin.calls.count("getinfo") >= 2 or None, "asked twice")
    setattr(does, failing, False)
    eventually(lambda: site.view(plugin).connected or None, "registered")  # type: ignore[attr-defined]  # PluginView


def test_all_slices_of_the_node_are_wiped_at_start_and_others_are_not(site: Site) -> None:
    site.client.create(SLICES, resource_slice("node-b", gpu("gpu-0")))
    site.client.create(SLICES, resource_slice(NODE, gpu("gpu-0"), name="mine"))
    other = resource_slice(NODE, gpu("nic-0"), name="other")
    other["spec"]["driver"] = "other.example.com"
    site.client.create(SLICES, other)
    site.kubelet.restart()
    eventually(lambda: len(site.client.list(SLICES)) == 1 or None, "wiped")
    time.sleep(0.1)
    again = site.client.create(SLICES, resource_slice(NODE, gpu("gpu-0"), name="mine"))
    time.sleep(0.2)
    assert site.client.get(SLICES, "mine")["metadata"]["uid"] == again["metadata"]["uid"]


def test_slices_of_a_driver_are_wiped_after_the_delay_and_not_if_it_is_back_before(site: Site) -> None:
    plugin = site.plugin()
    time.sleep(0.1)
    site.client.create(SLICES, resource_slice(NODE, gpu("gpu-0"), name="mine"))
    plugin.stop()
    time.sleep(0.3)
    successor = site.plugin()
    time.sleep(0.6)
    assert site.client.find(SLICES, "mine") is not None
    stopped = time.monotonic()
    successor.stop()
    eventually(lambda: site.client.find(SLICES, "mine") is None or None, "wiped")
    assert 0.5 < time.monotonic() - stopped < 1.5


def test_a_pod_gets_its_devices(site: Site) -> None:
    plugin = site.plugin()
    site.run_pod("train", "train")
    seen = site.running("train")
    assert condition(seen, "PodReadyToStartContainers")["status"] == "True"
    assert condition(seen, "Ready")["status"] == "True"
    uid = site.client.get(CLAIMS, "train", "default")["metadata"]["uid"]
    got = site.kubelet.containers()[0]
    assert got.cdi_ids == (f"{DRIVER}/gpu={uid}-gpu-0",)
    assert got.env == ("GPU=gpu-0",)
    assert got.mounts == ({"hostPath": "/usr", "containerPath": "/usr/gpu"},)
    assert plugin.calls.count("prepare v1 1") == 1
    assert [call.outcome for call in site.kubelet.calls("NodePrepareResources")] == ["OK"]


def test_a_shared_claim_is_prepared_once_and_unprepared_after_its_last_pod(site: Site) -> None:
    plugin = site.plugin()
    site.run_pod("one", "shared")
    site.running("one")
    site.run_pod("two", "shared")
    site.running("two")
    assert plugin.calls.count("prepare") == 1
    site.client.delete("pods", "one", "default")
    eventually(lambda: site.pod("one") is None or None, "one gone")
    assert plugin.calls.count("unprepare") == 0
    site.client.delete("pods", "two", "default")
    eventually(lambda: site.pod("two") is None or None, "two gone")
    assert plugin.calls.count("unprepare") == 1
    assert site.kubelet.claims_in_use() == ()


@pytest.mark.parametrize(
    ("does", "text"),
    [
        pytest.param(
            Behaviour(prepare=lambda _uid: "no GPU today"),
            "NodePrepareResources failed for ResourceClaim train: no GPU today",
            id="error of the claim",
        ),
        pytest.param(
            Behaviour(skip_answers=True), "NodePrepareResources skipped 1 ResourceClaims", id="no answer"
        ),
    ],
)
def test_a_failed_prepare_is_an_event_and_is_repeated_with_the_pod_sync(
    site: Site, does: Behaviour, text: str
) -> None:
    plugin = site.plugin(behaviour=does)
    site.run_pod("train", "train")
    event = site.event(text)
    assert event["reason"] == "FailedPrepareDynamicResources"
    assert event["message"] == f"Failed to prepare dynamic resources: prepare dynamic resources: {text}"
    failed = time.monotonic()
    does.prepare, does.skip_answers = (lambda _uid: ""), False
    site.running("train")
    assert time.monotonic() - failed > 0.7
    assert plugin.calls.count("prepare") == 2


def test_a_change_of_the_pod_repeats_prepare_at_once(site: Site) -> None:
    does = Behaviour(prepare=lambda _uid: "not yet")
    site.plugin(behaviour=does)
    created = site.run_pod("train", "train")
    site.event("not yet")
    does.prepare = lambda _uid: ""
    site.client.patch("pods", ("default", "train"), {"metadata": {"annotations": {"a": "b"}}})
    started = time.monotonic()
    assert site.running("train")["metadata"]["uid"] == created["metadata"]["uid"]
    assert time.monotonic() - started < 0.6


def test_a_driver_that_is_not_there_and_one_that_hangs_have_their_texts(site: Site) -> None:
    site.run_pod("early", "early")
    site.event(f"DRA driver {DRIVER} is not registered")
    site.plugin(behaviour=Behaviour(prepare=lambda _uid: time.sleep(2.3) or ""))
    site.run_pod("late", "late")
    site.event("NodePrepareResources: rpc error: code = DeadlineExceeded desc = context deadline exceeded")


def test_unprepare_errors_keep_the_pod_and_no_event_is_written(site: Site) -> None:
    does = Behaviour(unprepare=lambda _uid: "stuck")
    plugin = site.plugin(behaviour=does)
    site.run_pod("train", "train")
    site.running("train")
    site.client.delete("pods", "train", "default")
    eventually(lambda: plugin.calls.count("unprepare") >= 3 or None, "three tries")
    assert site.pod("train") is not None
    assert site.client.list("events", "default") == []
    does.unprepare = lambda _uid: ""
    eventually(lambda: site.pod("train") is None or None, "gone")


def test_a_pod_removed_by_force_is_unprepared(site: Site) -> None:
    plugin = site.plugin()
    site.run_pod("train", "train")
    site.running("train")
    site.client.delete("pods", "train", "default", options=DeleteOptions(grace_seconds=0))
    eventually(lambda: plugin.calls.count("unprepare") or None, "unprepared")


def test_a_finished_pod_is_unprepared_and_keeps_its_object(site: Site) -> None:
    plugin = site.plugin()
    site.run_pod("train", "train")
    site.running("train")
    site.kubelet.finish_pod("default", "train")
    eventually(lambda: site.pod("train")["status"]["phase"] == "Succeeded" or None, "succeeded")  # type: ignore[index]  # it is there
    assert plugin.calls.count("unprepare") == 1


def test_a_restart_leaves_running_pods_alone_and_prepares_only_for_a_new_sandbox(site: Site) -> None:
    plugin = site.plugin()
    site.run_pod("train", "train")
    before = site.running("train")
    site.kubelet.restart()
    eventually(lambda: plugin.calls.count("getinfo") == 2 or None, "registered again")
    time.sleep(0.2)
    assert site.pod("train")["status"] == before["status"]  # type: ignore[index]  # it is there
    site.kubelet.crash_container("default", "train", "main")
    eventually(
        lambda: site.kubelet.containers()[0].restarts or None if site.kubelet.containers() else None, "again"
    )
    assert plugin.calls.count("prepare") == 1
    site.kubelet.lose_sandbox("default", "train")
    eventually(lambda: plugin.calls.count("prepare") == 2 or None, "prepared for the new sandbox")
    eventually(lambda: site.kubelet.containers() or None, "running again")
    site.kubelet.lose_sandbox("default", "train")
    eventually(lambda: site.kubelet.containers() or None, "running once more")
    assert plugin.calls.count("prepare") == 2


def test_a_lost_cdi_file_is_an_error_of_the_container_and_makes_no_prepare(site: Site) -> None:
    plugin = site.plugin()
    site.run_pod("train", "train")
    site.running("train")
    spec = next((site.root / "cdi").iterdir())
    text = spec.read_text()
    spec.unlink()
    site.kubelet.crash_container("default", "train", "main")

    def waiting() -> Json | None:
        state = site.pod("train")["status"]["containerStatuses"][0]["state"]  # type: ignore[index]  # it is there
        found: Json | None = state.get("waiting")
        return found

    found = eventually(waiting, "CreateContainerError")
    assert found["reason"] == "CreateContainerError"
    assert f"unresolvable CDI devices {DRIVER}/gpu=" in found["message"]
    spec.write_text(text)
    site.running("train")
    assert plugin.calls.count("prepare") == 1


def test_health_reaches_the_pod_status_under_the_first_cdi_id(site: Site) -> None:
    plugin = site.plugin()
    site.run_pod("train", "train")
    site.running("train")
    uid = site.client.get(CLAIMS, "train", "default")["metadata"]["uid"]
    assert site.health("train") == [
        {"name": "claim:c0", "resources": [{"resourceID": f"{DRIVER}/gpu={uid}-gpu-0", "health": "Unknown"}]}
    ]
    plugin.report(gpu_0=("Healthy", "score=100"))
    site.shows("train", "Healthy", "score=100")
    plugin.report(gpu_0=("Unhealthy", "x" * 1100))
    assert len(site.shows("train", "Unhealthy")["message"]) == 1024


def test_a_container_that_names_a_request_has_it_in_the_name(site: Site) -> None:
    site.plugin(behaviour=Behaviour(cdi=False))
    site.run_pod("train", "train", requests=("gpu", "other"))
    site.running("train")
    assert site.health("train") == [
        {
            "name": "claim:c0/gpu",
            "resources": [{"resourceID": f"{DRIVER}/{NODE}/gpu-0", "health": "Unknown"}],
        },
        {"name": "claim:c0/other"},
    ]


def test_a_burst_of_health_is_one_update_a_tick_and_the_last_state_wins(site: Site) -> None:
    plugin = site.plugin()
    site.run_pod("train", "train")
    site.running("train")
    version = int(site.pod("train")["metadata"]["resourceVersion"])  # type: ignore[index]  # it is there
    updates = 0
    with site.client.watch("pods", resource_version=str(version)) as watch:
        for number in range(21):
            plugin.report(gpu_0=("Healthy" if number % 2 else "Unhealthy", str(number)))
            time.sleep(0.01)
        site.shows("train", "Unhealthy", "20")
        while watch.next(timeout_seconds=0.2) is not None:
            updates += 1
    assert 2 <= updates <= 4


def test_the_end_of_a_stream_is_unknown_only_once_the_pod_syncs(site: Site) -> None:
    plugin = site.plugin(behaviour=Behaviour(health_timeout_seconds=30))
    site.run_pod("train", "train")
    site.running("train")
    plugin.report(gpu_0=("Healthy", ""))
    site.shows("train", "Healthy")
    plugin.end_streams()
    time.sleep(0.1)
    assert site.health("train")[0]["resources"][0]["health"] == "Healthy"
    site.client.patch("pods", ("default", "train"), {"metadata": {"annotations": {"a": "b"}}})
    site.shows("train", "Unknown")
    eventually(lambda: plugin.calls.count("health") == 2 or None, "stream opened again")
    time.sleep(0.05)
    plugin.report(gpu_0=("Healthy", ""))
    site.shows("train", "Healthy")


def test_a_stream_refused_as_unimplemented_is_not_asked_again(site: Site) -> None:
    plugin = site.plugin(behaviour=Behaviour(health_error=grpc.StatusCode.UNIMPLEMENTED))
    time.sleep(0.6)
    assert plugin.calls.count("health") == 1


def test_the_instance_registered_last_gets_calls_and_the_other_takes_over(site: Site) -> None:
    old = site.plugin("old")
    new = site.plugin("new")
    site.run_pod("one", "one")
    site.running("one")
    assert (old.calls.count("prepare"), new.calls.count("prepare")) == (0, 1)
    new.stop()
    eventually(lambda: site.view(old).favourite or None, "old is favourite")  # type: ignore[attr-defined]  # PluginView
    site.client.delete("pods", "one", "default")
    eventually(lambda: site.pod("one") is None or None, "gone")
    assert old.calls.count("unprepare") == 1


def test_a_claim_replaced_under_its_name_waits_for_the_old_one(site: Site) -> None:
    does = Behaviour(unprepare=lambda _uid: "stuck")
    site.plugin(behaviour=does)
    site.run_pod("one", "same")
    site.running("one")
    site.client.delete("pods", "one", "default", options=DeleteOptions(grace_seconds=0))
    site.client.delete(CLAIMS, "same", "default")
    eventually(lambda: site.client.find(CLAIMS, "same", "default") is None or None, "claim gone")
    site.run_pod("two", "same")
    site.event("old ResourceClaim with same name same and different UID")
    does.unprepare = lambda _uid: ""
    site.running("two")


def test_a_pod_deleted_while_the_kubelet_was_down_is_not_prepared(site: Site) -> None:
    plugin = site.plugin()
    site.kubelet.stop()
    site.run_pod("train", "train")
    site.client.delete("pods", "train", "default")
    site.kubelet.start()
    eventually(lambda: site.pod("train") is None or None, "gone")
    assert plugin.calls.count("prepare") == 0
