"""`gpuvitals explain NODE GPU`: the explanation of the node's agent, or the content of the slice without it."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing

import msgspec

from gpuvitals.cli.errors import UsageError
from gpuvitals.cli.gpu_names import GpuNames
from gpuvitals.decode_error import decoded
from gpuvitals.kube.agent_pods import SELECTOR, AgentPod, CommandResult, agent_pods, run_in_pod
from gpuvitals.kube.errors import ApiError
from gpuvitals.kube.slices.list import published
from gpuvitals.kube.slices.view import DeviceView
from gpuvitals.kube.transport import ConnectSettings, connect
from gpuvitals.node.explain import Station

_STATIONS = msgspec.json.Decoder(list[dict[str, str]])
_STATE_FLAG = "--state-dir="


_INSTEAD = "so this is the content of its ResourceSlice"


class _NoExplanationError(Exception):
    """An agent that did not explain the GPU. The message is the reason."""


def remote_stations(
    settings: ConnectSettings, node: str, gpu: str, selector: str = SELECTOR
) -> list[Station]:
    """The stations of one GPU of a node, as its agent explains them.

    Without an explanation the stations have the content of the ResourceSlice and the reason. Raises ApiError, and
    UsageError for a node or GPU that is not published.
    """
    with closing(connect(settings)) as transport:
        view = published(transport, node=node)
        if not view.devices and not view.nodes:
            raise UsageError(
                f"explain: no gpuvitals publishes slices for a node {node!r}; see gpuvitals status"
            )
        device = _named(view.devices, node, gpu)
        try:
            pods = agent_pods(transport, node, selector)
            reason = f"no agent pod runs on {node}, {_INSTEAD}"
        except ApiError as error:
            pods, reason = (), f"the agent pods of {node} could not be listed, {_INSTEAD}: {error}"
    for pod in pods:
        try:
            return _explained(settings, pod, device)
        except _NoExplanationError as error:
            reason = str(error)
    troubles = [
        trouble for found in view.nodes if found.driver == device.driver for trouble in found.troubles
    ]
    return [*_from_slice(device), *(Station("node", each) for each in troubles), Station("agent", reason)]


def _named(devices: Sequence[DeviceView], node: str, gpu: str) -> DeviceView:
    names = GpuNames(devices)
    name = names.device(gpu)
    for device in devices:
        if device.device == name:
            return device
    known = ", ".join(names.devices) or "none"
    raise UsageError(f"explain: node {node} publishes no GPU {gpu!r}; it has {known}")


def _explained(settings: ConnectSettings, pod: AgentPod, device: DeviceView) -> list[Station]:
    """The explanation of one agent. Raises _NoExplanationError."""
    flags = [
        f"--agent={flag.removeprefix(_STATE_FLAG)}" for flag in pod.flags if flag.startswith(_STATE_FLAG)
    ]
    command = ["gpuvitals", "explain", device.device, "--json", *flags]
    name = f"pod {pod.namespace}/{pod.name}"
    try:
        result = run_in_pod(settings, pod, command)
    except ApiError as error:
        raise _NoExplanationError(f"the agent could not be reached, {_INSTEAD}: {error}") from error
    if result.code != 0:
        text = " ".join((result.errors or result.output).split())
        raise _NoExplanationError(f"{name} failed, {_INSTEAD}: {text}")
    return _stations(name, result)


def _stations(name: str, result: CommandResult) -> list[Station]:
    try:
        return [Station(each["station"], each["text"]) for each in decoded(_STATIONS, result.output.encode())]
    except (msgspec.DecodeError, KeyError) as error:
        raise _NoExplanationError(f"{name} returned no explanation, {_INSTEAD}: {error}") from error


def _from_slice(view: DeviceView) -> Iterator[Station]:
    health = view.health
    yield Station("gpu", f"{view.uuid}, {view.product}, at {view.bus_id}")
    yield Station(
        "verdict", f"{view.state}, score {health.get('score', '0')}, reason {health.get('reason', '')}"
    )
    if health.get("message"):
        yield Station("message", health["message"])
    yield Station("device", f"{view.device} of driver {view.driver}")
    service = "in" if view.in_service else "out: no new claim gets it"
    yield Station("service", f"{service}{''.join(f'; taint {taint}' for taint in view.taints)}")
    rest = {
        key: value
        for key, value in sorted(health.items())
        if key not in ("state", "score", "reason", "message")
    }
    yield Station("attributes", json.dumps(rest))
