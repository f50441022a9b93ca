"""`gpuvitals status`: every GPU that the cluster shows, one line each, the failed ones first."""

import argparse
import json
import sys
from collections.abc import Iterable
from contextlib import closing

import msgspec

from gpuvitals.cli.connection import add_connection_options, connection
from gpuvitals.kube.errors import ApiError
from gpuvitals.kube.slices.list import slice_pages
from gpuvitals.kube.slices.view import DeviceView, NodeView, device_views, node_views
from gpuvitals.kube.transport import connect

_COLUMNS = ("NODE", "DEVICE", "STATE", "SCORE", "REASON", "XIDS", "NVLINK", "SERVICE", "PRODUCT")


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the verb."""
    parser = verbs.add_parser("status", help="list the GPUs that the cluster shows, with their health")
    add_connection_options(parser)
    parser.add_argument("--node", default="", help="only this node")
    parser.add_argument("--driver", default="", help="only the driver of this name; default: every gpuvitals")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the table. 0; 1 where the API server does not answer as expected."""
    try:
        with closing(connect(connection(options))) as transport:
            pages = list(slice_pages(transport, driver=options.driver, node=options.node))
        devices = [view for page in pages for view in device_views(page)]
        nodes = [view for page in pages for view in node_views(page)]
    except ApiError as error:
        print(f"gpuvitals: {error}", file=sys.stderr)
        return 1
    except msgspec.DecodeError as error:
        print(f"gpuvitals: the list of ResourceSlices cannot be read: {error}", file=sys.stderr)
        return 1
    devices.sort(key=DeviceView.severity)
    print(_json(devices, nodes) if options.json else _text(devices, nodes, options))
    return 0


def _text(devices: list[DeviceView], nodes: list[NodeView], options: argparse.Namespace) -> str:
    troubles = [f"{view.node}: {trouble}" for view in nodes for trouble in view.troubles]
    if devices:
        return "\n".join([*_table(devices), *([""] if troubles else []), *troubles])
    if nodes:
        return "\n".join([f"no GPU is published by {len(nodes)} node(s) with an agent", *troubles])
    asked = [f" by driver {options.driver}"] if options.driver else []
    asked += [f" for node {options.node}"] if options.node else []
    return f"no GPU is published{''.join(asked)}: is the agent running, and has it found a driver?"


def _table(devices: list[DeviceView]) -> Iterable[str]:
    several = len({view.driver for view in devices}) > 1
    rows = [_COLUMNS, *(_row(view) for view in devices)]
    if several:
        drivers = ["DRIVER", *(view.driver for view in devices)]
        rows = [(driver, *row) for driver, row in zip(drivers, rows, strict=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _row(view: DeviceView) -> tuple[str, ...]:
    health = view.health
    return (
        view.node,
        view.device,
        view.state,
        health.get("score", "0"),
        health.get("reason", ""),
        health.get("xidErrors", "0"),
        health.get("nvlinkStatus", ""),
        "in" if view.in_service else "out",
        view.product,
    )


def _json(devices: list[DeviceView], nodes: list[NodeView]) -> str:
    shown = {"devices": devices, "nodes": [view for view in nodes if view.troubles]}
    return json.dumps(msgspec.to_builtins(shown), indent=2)
