"""`gpuvitals status`: lists every published GPU of the cluster, one line each, the failed ones first."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing

import msgspec

from gpuvitals.cli.connection import add_connection_options, connection
from gpuvitals.kube.errors import ApiError
from gpuvitals.kube.slices.list import published
from gpuvitals.kube.slices.view import DeviceView, NodeView, PublishedView
from gpuvitals.kube.transport import connect

_COLUMNS = ("NODE", "DEVICE", "STATE", "SCORE", "REASON", "XIDS", "NVLINK", "SERVICE", "PRODUCT")


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the verb."""
    parser = verbs.add_parser("status", help="list the published GPUs of the cluster, with their health")
    add_connection_options(parser)
    parser.add_argument("--node", default="", help="only this node")
    parser.add_argument("--driver", default="", help="only the driver of this name; default: every gpuvitals")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the table. Returns 0, or 1 for an API server that does not answer as expected."""
    try:
        with closing(connect(connection(options))) as transport:
            view = published(transport, driver=options.driver, node=options.node)
    except ApiError as error:
        print(f"gpuvitals: {error}", file=sys.stderr)
        return 1
    print(_json(view) if options.json else _text(view, options))
    return 0


def _text(view: PublishedView, options: argparse.Namespace) -> str:
    troubles = [f"{node.node}: {trouble}" for node in view.nodes for trouble in node.troubles]
    if view.devices:
        return "\n".join([*_table(view.devices), *([""] if troubles else []), *troubles])
    if view.nodes:
        return "\n".join([f"no GPU is published by {len(view.nodes)} node(s) with an agent", *troubles])
    limits = [f" by driver {options.driver}"] if options.driver else []
    limits += [f" for node {options.node}"] if options.node else []
    return f"no GPU is published{''.join(limits)}: is the agent running, and has it found a driver?"


def _table(devices: Sequence[DeviceView]) -> Iterable[str]:
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


def _json(view: PublishedView) -> str:
    nodes: list[NodeView] = [node for node in view.nodes if node.troubles]
    return json.dumps(msgspec.to_builtins({"devices": view.devices, "nodes": nodes}), indent=2)
