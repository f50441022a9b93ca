"""`gpuvitals demo`: plays a scenario on a small cluster on this machine, with real agents on simulated GPUs."""

import argparse
import errno
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gpuvitals.cli.command import command
from gpuvitals.cli.errors import UsageError
from gpuvitals.cli.output import OutputError
from gpuvitals.cli.termination import Termination
from gpuvitals_sim.cli.demo_lock import running_mark
from gpuvitals_sim.cli.inject import FOLDER_PREFIX

if TYPE_CHECKING:
    from gpuvitals_sim.cluster import SimulatedCluster
    from gpuvitals_sim.scenario import Scenario

_LIBRARY = "libnvidia-ml.so.1"
_LOG_LINES = 30
_WATCH_SECONDS = 0.5
_MAX_FOLDER_BYTES = 46
"""The path of a Unix socket has 107 bytes: `/node-10/plugins_registry/` and the hashed name of a socket take 61."""


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the verb."""
    parser = verbs.add_parser("demo", help="play faults on a small simulated cluster and check each step")
    parser.add_argument(
        "--scenario", default="walk", help="a name that --list prints, or a YAML file; default: walk"
    )
    parser.add_argument("--list", action="store_true", help="print the scenarios that ship with the package")
    parser.add_argument(
        "--keep", action="store_true", help="leave the cluster up until Ctrl-C, for use with kubectl"
    )
    parser.add_argument(
        "--nvml-library",
        type=Path,
        help="a folder with the mock libnvidia-ml.so.1 of `make nvml-mock`: the agents call it through the real binding",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Plays the scenario. 0 if every expectation held, else 1."""
    from gpuvitals_sim import scenario as scenarios  # imported late: the simulation is slow to import

    if options.list:
        for name in scenarios.builtin_names():
            print(f"{name:10} {scenarios.load_builtin(name).description}")
        return 0
    try:
        path = Path(options.scenario)
        is_file = path.suffix in (".yaml", ".yml")
        chosen = scenarios.load(path) if is_file else scenarios.load_builtin(options.scenario)
    except scenarios.ScenarioError as error:
        raise UsageError(f"--scenario {error}") from error
    library = options.nvml_library
    if library is not None and not (library / _LIBRARY).is_file():
        raise UsageError(f"--nvml-library {library}: no {_LIBRARY} there; build one with: make nvml-mock")
    return _play(chosen, None if library is None else library.resolve(), keep=options.keep)


def _play(scenario: "Scenario", library: Path | None, *, keep: bool) -> int:
    from gpuvitals_sim.demo.action_runner import ActionRunner
    from gpuvitals_sim.demo.observer import Observer
    from gpuvitals_sim.demo.report import ConsoleReport
    from gpuvitals_sim.demo.scenario_runner import ScenarioRunner
    from gpuvitals_sim.demo.wiring import demo_cluster

    report = ConsoleReport(scenario)
    _print(report.opening())
    with (
        Termination() as termination,
        _folder() as folder,
        demo_cluster(folder, scenario, library=library) as cluster,
    ):
        began = time.monotonic()
        stopping = termination.requested
        for progress in ScenarioRunner(ActionRunner(cluster, stopping), Observer(cluster), stopping).play(
            scenario
        ):
            _print(report.lines(progress))
        if stopping.is_set():
            _print_if_open("\nstopped before the end of the scenario")
            return termination.exit_code
        _print(report.closing(time.monotonic() - began))
        if report.failed:
            _print(_logs(cluster))
        if keep:
            _print(_invitation(cluster))
            reported: set[str] = set()
            while not stopping.wait(_WATCH_SECONDS):
                _print(_endings(cluster, reported))
            _print_if_open("\nstopping ...")
    return 1 if report.failed else 0


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder for the demo, removed at its end. Its path must be short: Unix sockets lie in it. Raises UsageError."""
    made = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
    try:
        spare = _MAX_FOLDER_BYTES - len(os.fsencode(made))
        if spare < 0:
            raise UsageError(
                f"$TMPDIR: its path is {-spare} bytes too long for the Unix sockets of a demo; set a shorter one"
            )
        with running_mark(made):
            yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _logs(cluster: "SimulatedCluster") -> Iterator[str]:
    for node in cluster.nodes:
        yield ""
        yield f"the end of the log of the agent of {node.name}:"
        yield node.agent.log_tail(_LOG_LINES)


def _endings(cluster: "SimulatedCluster", reported: set[str]) -> Iterator[str]:
    """Each agent that has ended by itself since the last call, with the end of its log."""
    for node in cluster.nodes:
        ended = node.agent.ended
        if ended and ended not in reported:
            reported.add(ended)
            yield f"\n{ended}; the end of its log:"
            yield node.agent.log_tail(_LOG_LINES)


def _invitation(cluster: "SimulatedCluster") -> Iterator[str]:
    node = cluster.nodes[0]
    last = len(node.gpus.gpus) - 1
    gpuvitals = command(anywhere=True)
    yield ""
    yield "The cluster stays up until Ctrl-C. In another terminal:"
    yield f"  export KUBECONFIG={cluster.kubeconfig}"
    yield "  kubectl get resourceslices,resourceclaims,pods"
    yield f"  {gpuvitals} status"
    yield f"  {gpuvitals} inject --demo {cluster.folder} xid --node {node.name} --gpu {last} --code 79"
    yield f"  {gpuvitals} explain --agent {node.agent.state_directory} {node.device(last)}"


def _print_if_open(line: str) -> None:
    """Prints to a terminal that may be closed: a hangup is one way to stop the demo."""
    try:
        print(line, flush=True)
    except OutputError:
        _close_output()


def _print(lines: Iterator[str]) -> None:
    for line in lines:
        try:
            print(line, flush=True)
        except OutputError as error:
            # A closed terminal returns EIO before its hangup arrives, which ends the demo in order.
            if not isinstance(error.__cause__, OSError) or error.__cause__.errno != errno.EIO:
                raise
            _close_output()


def _close_output() -> None:
    """Redirects output to /dev/null, since the interpreter flushes it once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
