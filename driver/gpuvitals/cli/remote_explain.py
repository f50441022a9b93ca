"""`gpuvitals explain NODE GPU`: what the API server shows of a GPU, and what its agent answers when it can be asked."""

import json
from collections.abc import Iterator
from contextlib import closing

import msgspec

from gpuvitals.cli.errors import UsageError
from gpuvitals.cli.gpu_names import GpuNames
from gpuvitals.decode_error import decoded
from gpuvitals.kube.agent_pods import SELECTOR, AgentPod, Finished, agent_pods, run_in_pod
from gpuvitals.kube.errors import ApiError, Permanent
from gpuvitals.kube.slices.list import slice_pages
from gpuvitals.kube.slices.view import DeviceView, device_views, node_views
from gpuvitals.kube.transport import ConnectSettings, connect
from gpuvitals.node.explain import Station

_STATIONS = msgspec.json.Decoder(list[dict[str, str]])
_STATE_FLAG = "--state-dir="


def remote_stations(
    settings: ConnectSettings, node: str, gpu: str, selector: str = SELECTOR
) -> list[Station]:
    """The stations of one GPU of a node: the agent's own, and without an agent what its ResourceSlice shows.

    Raises ApiError, and UsageError for a node or GPU that is not published.
    """
    with closing(connect(settings)) as transport:
        try:
            pages = list(slice_pages(transport, node=node))
            published = [view for page in pages for view in device_views(page)]
            nodes = [view for page in pages for view in node_views(page)]
        except msgspec.DecodeError as error:
            raise Permanent(f"the list of ResourceSlices cannot be read: {error}") from error
        if not published and not nodes:
            raise UsageError(
                f"explain: no gpuvitals publishes slices for a node {node!r}; see gpuvitals status"
            )
        view = _named(published, node, gpu)
        pods = agent_pods(transport, node, selector)
    stations, trouble = _from_agent(settings, pods, view)
    if stations:
        return stations
    shown = [trouble for found in nodes if found.driver == view.driver for trouble in found.troubles]
    return [*_from_slice(view), *(Station("node", each) for each in shown), Station("agent", trouble)]


def _named(published: list[DeviceView], node: str, gpu: str) -> DeviceView:
    names = GpuNames(published)
    device = names.device(gpu)
    for view in published:
        if view.device == device:
            return view
    there = ", ".join(names.devices) or "none"
    raise UsageError(f"explain: node {node} publishes no GPU {gpu!r}; it has {there}")


def _from_agent(
    settings: ConnectSettings, pods: tuple[AgentPod, ...], view: DeviceView
) -> tuple[list[Station], str]:
    """The agent's own stations; without them, why there are none."""
    if not pods:
        return [], f"no agent pod runs on {view.node}, so this is what the API server shows"
    trouble = ""
    for pod in pods:
        flags = [
            f"--agent={flag.removeprefix(_STATE_FLAG)}" for flag in pod.flags if flag.startswith(_STATE_FLAG)
        ]
        command = ["gpuvitals", "explain", view.device, "--json", *flags]
        try:
            answer = run_in_pod(settings, pod, command)
        except ApiError as error:
            trouble = f"could not be asked, so this is what the API server shows: {error}"
            continue
        if answer.code == 0:
            return _stations(answer), ""
        trouble = (
            f"pod {pod.namespace}/{pod.name} answered: {' '.join((answer.errors or answer.output).split())}"
        )
    return [], trouble


def _stations(answer: Finished) -> list[Station]:
    try:
        return [Station(each["station"], each["text"]) for each in decoded(_STATIONS, answer.output.encode())]
    except (msgspec.DecodeError, KeyError) as error:
        raise Permanent(f"the agent's answer is not an explanation: {error}") from error


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
