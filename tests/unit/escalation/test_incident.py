"""Incidents join faults with their open remediations; absence heals nothing."""

from dataclasses import replace

from gpuvitals.escalation.incident import Condition, incidents, remediation_name
from gpuvitals.escalation.remediation import Stage, Status, Target
from gpuvitals.escalation.world import Fault, Return
from gpuvitals.model.health import Confidence
from gpuvitals.model.ids import NodeName, Reason
from support.worlds.fleet import EPOCH, NOW, ago, cause_of, device, node, remediation, target_of, world


def test_a_device_out_of_service_is_a_new_incident() -> None:
    (found,) = incidents(world(out=[device()]))

    assert (found.condition, found.remediation) == (Condition.OUT, None)
    assert found.name == remediation_name(target_of(device()), cause_of(device()))


def test_one_incident_per_target_while_a_remediation_is_open() -> None:
    (found,) = incidents(world(out=[device()], remediations=[remediation(device())]))

    assert found.remediation is not None


def test_an_ended_remediation_does_not_cover_a_new_fault() -> None:
    ended = remediation(device(since=ago(days=2)), Status(epoch=EPOCH, stage=Stage.ENDED))
    (found,) = incidents(world(out=[device()], remediations=[ended]))

    assert found.remediation is None
    assert found.name != ended.name


def test_a_device_that_no_slice_shows_is_unknown_and_not_healed() -> None:
    (found,) = incidents(world(remediations=[remediation(device())]))

    assert found.condition is Condition.UNKNOWN


def test_only_a_published_good_verdict_is_good() -> None:
    for published, expected in ((Return.GOOD, Condition.GOOD), (Return.PROBATION, Condition.PROBATION)):
        (found,) = incidents(
            world(remediations=[remediation(device())], returned={target_of(device()): published})
        )
        assert found.condition is expected


def test_a_slice_of_a_node_that_does_not_exist_is_ignored() -> None:
    assert incidents(world(out=[device(number=9)])) == ()


def test_a_node_that_was_created_again_is_not_the_target() -> None:
    (found,) = incidents(world([node(uid="uid-other")], remediations=[remediation(device())]))

    assert found.node is None


def test_a_fault_of_the_node_is_an_incident_of_the_node() -> None:
    fault = Fault(reason=Reason("NvmlHung"), since=ago(minutes=5), confidence=Confidence.SINGLE)
    (found,) = incidents(world([node(faults=(fault,))]))

    assert found.target == Target(node=NodeName("node-0"), node_uid="uid-0")
    assert found.cause.reason == "NvmlHung"


def test_the_present_fault_replaces_that_of_the_record() -> None:
    """Severity may rise while a remediation is open; the target stays the key."""
    worse = device(reason="Xid79", since=NOW)
    (found,) = incidents(world(out=[worse], remediations=[remediation(device())]))

    assert found.cause.reason == "Xid79"
    assert found.remediation is not None


def test_incidents_are_ordered_by_age() -> None:
    old, young = device(index=1, since=ago(hours=2)), device(since=ago(hours=1))

    assert [each.target.gpu for each in incidents(world(out=[young, old]))] == [old.gpu, young.gpu]


def test_a_name_is_a_function_of_node_gpu_and_time() -> None:
    one = device()
    others = [device(index=1), device(since=NOW), device(number=1)]

    names = {remediation_name(target_of(each), cause_of(each)) for each in (one, *others)}
    assert len(names) == 4
    assert remediation_name(target_of(one), replace(cause_of(one), reason=Reason("Xid79"))) in names
