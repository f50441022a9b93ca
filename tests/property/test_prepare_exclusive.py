"""A prepared device is never offered twice, whatever the scheduler allocates and in whatever order calls come."""

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from gpuvitals.inventory.claims import ClaimRef
from gpuvitals.inventory.device import device_name
from gpuvitals.inventory.naming import Naming
from gpuvitals.kubeletplugin.allocated_claim import AllocatedClaim, AllocatedDevice, Toleration
from gpuvitals.kubeletplugin.checkpoint.format import State, decode, encode
from gpuvitals.kubeletplugin.claims.plan import NodeView, PreparePlan, plan_prepare, same_allocation
from gpuvitals.kubeletplugin.held_claim import HeldClaim
from gpuvitals.kubeletplugin.outcome import Refusal, RefusalCode
from gpuvitals.model.health import HealthState
from gpuvitals.model.ids import BootId, GpuUuid
from support.worlds.plugin_world import DRIVER, NODE, snapshot_of, uid_of

GPUS = 3
BOOT = BootId("boot-1")
NAMING = Naming()
NAMES = [device_name(entry.gpu) for entry in snapshot_of(GPUS).gpus]

claims = st.integers(1, 5)
good = st.builds(
    AllocatedDevice,
    request=st.sampled_from(["r", "s", "r/sub"]),
    driver=st.just(DRIVER),
    pool=st.just(str(NODE)),
    device=st.sampled_from(NAMES),
    admin_access=st.sampled_from([False, False, False, True]),
    share_id=st.sampled_from([None, None, "share-1", "share-2"]),
    tolerations=st.sampled_from([(), (Toleration(operator="Exists"),)]),
)
bad = st.builds(
    AllocatedDevice,
    request=st.sampled_from(["r", "NOT"]),
    driver=st.sampled_from([DRIVER, "nic.example.com"]),
    pool=st.sampled_from([NODE, "node-b"]),
    device=st.sampled_from([*NAMES, "gpu-none"]),
)
lists = st.one_of(
    st.lists(good, min_size=1, max_size=2),
    st.lists(good, min_size=1, max_size=2),
    st.lists(st.one_of(good, bad), min_size=1, max_size=3),
)


class Node(RuleBasedStateMachine):
    """The node's checkpoint under a hostile scheduler. Allocations may overlap in every way the API could express."""

    granted = 0
    in_use = 0

    def __init__(self) -> None:
        super().__init__()
        self.state = State(boot=BOOT)
        self.snapshot = snapshot_of(GPUS)
        self.fenced: frozenset[GpuUuid] = frozenset()
        self.allocated: dict[int, AllocatedClaim] = {}

    @initialize(results=st.lists(lists, min_size=5, max_size=5))
    def begin(self, results: list[list[AllocatedDevice]]) -> None:
        """Every claim starts with an allocation, so that Prepare is the most frequent call."""
        for number, listed in enumerate(results, start=1):
            self.allocate(number, listed)

    @rule(number=claims, results=lists)
    def allocate(self, number: int, results: list[AllocatedDevice]) -> None:
        """The scheduler allocates a claim, possibly again; prepared devices stay prepared until the kubelet calls."""
        self.allocated[number] = AllocatedClaim(
            namespace="ml", name=f"c{number}", uid=uid_of(number), results=tuple(results)
        )

    @rule(number=claims)
    def prepare_again(self, number: int) -> None:
        """The kubelet asks more often than anything else happens."""
        self.prepare(number)

    @rule(number=claims)
    def prepare(self, number: int) -> None:
        """A first preparation or a replay: the latter changes nothing and is never refused."""
        claim = self.allocated.get(number)
        if claim is None:
            return
        ref = ClaimRef(namespace="ml", name=f"c{number}", uid=uid_of(number))
        held = self.state.find(ref.uid)
        if held is not None and same_allocation(claim, held, NAMING, NODE):
            return
        view = NodeView(snapshot=self.snapshot, naming=NAMING, fenced=self.fenced)
        base = self.state.without_claim(ref.uid)
        plan = plan_prepare(ref, claim, base.claims, view)
        if isinstance(plan, Refusal) or not plan.devices:
            Node.in_use += isinstance(plan, Refusal) and plan.code is RefusalCode.DEVICE_IN_USE
            self.state = base
            return
        Node.granted += 1
        self._justified(plan, claim)
        self.state = base.with_claim(
            HeldClaim(claim=ref, devices=plan.devices, prepared_time=datetime(2026, 1, 1, tzinfo=UTC))
        )

    @rule(number=claims)
    def unprepare(self, number: int) -> None:
        """The kubelet releases a claim, prepared or not."""
        self.state = self.state.without_claim(uid_of(number)).with_tombstone(uid_of(number), 1.0, 600.0)

    @rule(index=st.integers(0, GPUS - 1), state=st.sampled_from(HealthState), isolated=st.booleans())
    def judge(self, index: int, state: HealthState, isolated: bool) -> None:
        """A verdict changes, without effect on prepared devices."""
        entries = list(self.snapshot.gpus)
        verdict = replace(entries[index].verdict, state=state)
        entries[index] = replace(entries[index], verdict=verdict, isolated=isolated)
        self.snapshot = replace(self.snapshot, gpus=tuple(entries))

    @rule(indexes=st.frozensets(st.integers(0, GPUS - 1)))
    def fence(self, indexes: frozenset[int]) -> None:
        """A remediation fences a reset group."""
        self.fenced = frozenset(self.snapshot.gpus[index].gpu.uuid for index in indexes)

    @rule()
    def restart(self) -> None:
        """The agent restarts and reads its own checkpoint."""
        read = decode(encode(self.state), BOOT)
        assert read == self.state
        self.state = read

    @invariant()
    def every_device_has_one_exclusive_holder(self) -> None:
        """No device has two holders, stated without the code under test: whole devices have one holder, each share has one."""
        for uuid in {entry.gpu.uuid for entry in self.snapshot.gpus}:
            shares = [
                device.share_id
                for held in self.state.claims
                for device in held.devices
                if device.uuid == uuid and not device.admin
            ]
            assert len(shares) == len(set(shares))
            assert None not in shares or len(shares) == 1

    def _justified(self, plan: PreparePlan, claim: AllocatedClaim) -> None:
        """Nothing is given that the allocation does not name for this driver and this node."""
        named = {
            (result.device, result.share_id, result.admin_access)
            for result in claim.results
            if result.driver == DRIVER and result.pool == NODE
        }
        for device in plan.devices:
            assert (device.device, device.share_id, device.admin) in named
            entry = self.snapshot.find(device.uuid)
            assert entry is not None
            tolerated = any(
                result.tolerations or result.admin_access
                for result in claim.results
                if result.device == device.device
            )
            out = entry.isolated or entry.verdict.state is HealthState.UNHEALTHY or device.uuid in self.fenced
            assert tolerated or not out


def test_a_prepared_device_is_never_offered_twice() -> None:
    """The counts keep the machine honest: most random allocations are refused for something else."""
    Node.granted = Node.in_use = 0
    run_state_machine_as_test(
        Node, settings=settings(max_examples=100, stateful_step_count=30, deadline=None)
    )
    assert Node.granted > 40
    assert Node.in_use > 10
