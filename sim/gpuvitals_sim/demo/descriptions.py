"""Descriptions of actions and expectations for the demo's output.

Place in the chain: `report.py` prints them beside the observations. Pure.
"""

from collections.abc import Iterator
from typing import assert_never

from gpuvitals_sim.scenario import actions
from gpuvitals_sim.scenario.expectations import (
    ClaimSeen,
    Condition,
    DeviceSeen,
    Expect,
    PodSeen,
    RegisteredSeen,
    Siblings,
    SlicesSeen,
    Subject,
    WritesSeen,
)
from gpuvitals_sim.scenario.model import Action, DeletePod, Wait


def action_text(action: Action) -> str:
    """The action in one line; empty for actions that are not shown."""
    match action:
        case actions.Xid():
            often = f", {action.repeat} times" if action.repeat > 1 else ""
            return f"kernel log of node-{action.node}: XID {action.code} on GPU {action.gpu}{often}"
        case actions.KernelLine(node=node, text=text):
            return f"kernel log of node-{node}: {text}"
        case actions.OffBus(node=node, gpu=gpu):
            return f"node-{node}: GPU {gpu} falls off the bus"
        case actions.Lose(node=node, gpu=gpu):
            return f"node-{node}: NVML returns GPU_IS_LOST for GPU {gpu}"
        case actions.SetReadings(node=node, gpu=gpu, readings=readings):
            values = ", ".join(f"{name}={value}" for name, value in readings.items())
            return f"node-{node}: readings of GPU {gpu} change to {values}"
        case actions.Reset(node=node, gpu=gpu):
            return f"node-{node}: reset GPU {gpu}"
        case actions.Noise(lasts=seconds):
            return f"{seconds:g} s of heat, correctable errors and an application's XIDs"
        case actions.CreatePod():
            return _pod_text(action)
        case DeletePod(name=name):
            return f"delete pod {name}"
        case actions.Restart(component=component, node=node):
            return f"restart the {component} of node-{node}"
        case actions.Kill(component=component, node=node):
            return f"kill the {component} of node-{node} (SIGKILL)"
        case actions.Start(component=component, node=node):
            return f"start the {component} of node-{node} again"
        case Wait(seconds=seconds):
            return f"wait {seconds:g} s"
        case actions.Mark():
            return ""
        case _:
            assert_never(action)


def expectation_text(wanted: Expect) -> str:
    """The expectation in one line."""
    text = _expected(wanted.subject)
    return f"{text}, unchanged for {wanted.holds:g} s" if wanted.holds is not None else text


def _pod_text(action: actions.CreatePod) -> str:
    claim = action.claim
    where = f" on node-{action.node}" if action.node is not None else ""
    count = "all GPUs" if claim.all_devices else "a GPU" if claim.count == 1 else f"{claim.count} GPUs"
    if claim.first_available:
        return f"create pod {action.name}{where}, which requests the first of {', '.join(one.name for one in claim.first_available)}"
    selector = f" with {claim.selector}" if claim.selector else ""
    return f"create pod {action.name}{where}, which requests {count}{selector}"


def _expected(subject: Subject) -> str:
    match subject:
        case DeviceSeen():
            return f"GPU {subject.gpu} of node-{subject.node}: {', '.join(_device_parts(subject))}"
        case PodSeen():
            return f"pod {subject.name}: {', '.join(_pod_parts(subject))}"
        case ClaimSeen(pod=pod, condition=condition):
            return f"the claim of pod {pod}: {_condition(condition)}"
        case Siblings(node=node, gpu=gpu):
            return f"all GPUs of node-{node} but GPU {gpu}: published as before"
        case SlicesSeen(node=node, devices=devices):
            return f"node-{node} publishes {devices} devices"
        case RegisteredSeen(node=node):
            return f"the kubelet of node-{node} has the agent registered"
        case WritesSeen():
            return _writes(subject)
        case _:
            assert_never(subject)


def _device_parts(wanted: DeviceSeen) -> Iterator[str]:
    if wanted.published is not None:
        yield "published" if wanted.published else "not published"
    if wanted.out is not None:
        yield "out of service" if wanted.out else "in service"
    if wanted.state is not None:
        yield wanted.state
    if wanted.score is not None:
        yield f"score {wanted.score}"
    if wanted.score_above is not None:
        yield f"score above {wanted.score_above}"
    if wanted.score_at_most is not None:
        yield f"score at most {wanted.score_at_most}"
    if wanted.health_class is not None:
        yield f"class {wanted.health_class}"
    if wanted.reason is not None:
        yield f"reason {wanted.reason}"
    if wanted.taint is not None:
        yield "no taint" if wanted.taint == "none" else f"taint {wanted.taint}"


def _pod_parts(wanted: PodSeen) -> Iterator[str]:
    if wanted.gone:
        yield "gone"
    if wanted.phase is not None:
        yield wanted.phase
    if wanted.node is not None:
        yield f"on node-{wanted.node}"
    if wanted.device is not None:
        yield f"with GPU {wanted.device.gpu} of node-{wanted.device.node}"
    if wanted.not_device is not None:
        yield f"not with GPU {wanted.not_device.gpu} of node-{wanted.not_device.node}"
    if wanted.condition is not None:
        yield _condition(wanted.condition)
    if wanted.health is not None:
        yield f"the kubelet reports its GPU as {wanted.health}"
    if wanted.health_message is not None:
        yield f"with the message {wanted.health_message!r}"


def _condition(condition: Condition) -> str:
    reason = f", reason {condition.reason}" if condition.reason is not None else ""
    return f"{condition.type}={condition.status}{reason}"


def _writes(wanted: WritesSeen) -> str:
    if wanted.at_most == 0:
        count = "no write"
    elif wanted.at_least is not None and wanted.at_most is not None:
        count = f"{wanted.at_least} to {wanted.at_most} writes"
    elif wanted.at_most is not None:
        count = f"at most {wanted.at_most} writes"
    else:
        count = f"at least {wanted.at_least} writes"
    where = f" by the agent of node-{wanted.node}" if wanted.node is not None else " by any agent"
    return f"{count} of {wanted.resource}{where}"
