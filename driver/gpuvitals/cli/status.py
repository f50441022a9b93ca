"""`gpuvitals status`: every GPU that the cluster shows, one line each, as its ResourceSlice says."""

import argparse
import json
import sys

from gpuvitals.cli.connection import add_connection_options, connection
from gpuvitals.inventory.naming import Naming
from gpuvitals.kube.client import Call, connect
from gpuvitals.kube.errors import ApiError
from gpuvitals.kube.slice_codec import PATH
from gpuvitals.kube.slice_view import DeviceView, device_views

_COLUMNS = ("NODE", "DEVICE", "STATE", "SCORE", "REASON", "XIDS", "NVLINK", "SERVICE", "PRODUCT")


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the verb."""
    parser = verbs.add_parser("status", help="list the GPUs that the cluster shows, with their health")
    add_connection_options(parser)
    parser.add_argument("--node", default="", help="only this node")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Prints the table. 0; 1 where the API server does not answer."""
    settings = connection(options)
    naming = Naming()
    selector = f"spec.driver={naming.driver}" + (f",spec.nodeName={options.node}" if options.node else "")
    try:
        transport = connect(settings)
        body = transport.request(Call(method="GET", path=PATH, query=(("fieldSelector", selector),)))
    except ApiError as error:
        print(f"gpuvitals: {error}", file=sys.stderr)
        return 1
    views = device_views(body, naming)
    print(_json(views) if options.json else _table(views))
    return 0


def _table(views: tuple[DeviceView, ...]) -> str:
    if not views:
        return "no GPU is published: is the agent running, and has it found a driver?"
    rows = [_COLUMNS, *(_row(view) for view in views)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(view: DeviceView) -> tuple[str, ...]:
    return (
        view.node,
        view.device,
        view.state,
        str(view.score),
        view.reason,
        str(view.xid_errors),
        view.nvlink,
        "out" if view.isolated else "in",
        view.product,
    )


def _json(views: tuple[DeviceView, ...]) -> str:
    keys = ("node", "device", "state", "score", "reason", "xid_errors", "nvlink", "isolated", "product")
    return json.dumps([{key: getattr(view, key) for key in keys} for view in views], indent=2)
