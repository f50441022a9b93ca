"""The scope of a fault follows from the evidence of all devices and nodes."""

from gpuvitals.escalation.incident import incidents
from gpuvitals.escalation.policy import EscalationPolicy
from gpuvitals.escalation.remediation import Scope
from gpuvitals.escalation.scope import CLIQUE_LABEL, failing_cliques, scope
from gpuvitals.escalation.world import Fault, World
from gpuvitals.model.health import Confidence
from gpuvitals.model.ids import Reason
from support.worlds.fleet import POLICY, ago, device, node, world


def scopes(fleet: World) -> set[Scope]:
    failing = failing_cliques(fleet)
    return {scope(each, fleet, failing) for each in incidents(fleet)}


def test_one_gpu_is_a_fault_of_the_device() -> None:
    assert scopes(world(out=[device()])) == {Scope.DEVICE}


def test_a_reason_of_the_fabric_is_never_the_devices() -> None:
    assert scopes(world(out=[device(reason="FabricFailed")])) == {Scope.FABRIC}


def test_a_driver_symptom_of_two_gpus_is_the_nodes() -> None:
    hung = [device(index=index, reason="NvmlHung") for index in range(2)]

    assert scopes(world(out=hung[:1])) == {Scope.DEVICE}
    assert scopes(world(out=hung)) == {Scope.NODE}


def test_a_policy_sets_the_number_of_failed_devices_that_fails_a_node() -> None:
    two = [device(index=index) for index in range(2)]

    assert scopes(world(out=two)) == {Scope.DEVICE}
    assert scopes(world(out=two, policy=EscalationPolicy(name=POLICY, failed_devices=2))) == {Scope.NODE}


def test_a_fault_that_the_node_reports_is_the_nodes() -> None:
    fault = Fault(reason=Reason("GpuNotUp"), since=ago(minutes=5), confidence=Confidence.SINGLE)

    assert scopes(world([node(faults=(fault,))])) == {Scope.NODE}


def clique(size: int, failed: int, minutes_apart: float = 0) -> World:
    nodes = [node(number, labels={CLIQUE_LABEL: "rack-1.0"}) for number in range(size)]
    out = [device(number, since=ago(minutes=60 - minutes_apart * number)) for number in range(failed)]
    return world(nodes, out)


def test_half_of_a_clique_failing_together_is_the_fabrics_fault() -> None:
    assert scopes(clique(6, 3)) == {Scope.FABRIC}
    assert scopes(clique(7, 3)) == {Scope.DEVICE}
    assert scopes(clique(2, 2)) == {Scope.DEVICE}


def test_failures_that_are_hours_apart_are_not_the_fabrics() -> None:
    assert scopes(clique(6, 3, minutes_apart=20)) == {Scope.DEVICE}
