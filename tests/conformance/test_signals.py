"""The real agent ends at every signal, from its first instruction on."""

import random
import tempfile
from pathlib import Path

import pytest

from support.crash.random_signals import ENDING, bursts, ended, send
from support.long_runs import share
from support.worlds.agent_node import serving
from support.worlds.agent_process import AgentProcess

STARTS_IN = 1.5
"""Within so long the agent has started on an idle machine."""


@pytest.mark.parametrize(
    "total",
    [
        pytest.param(20, marks=pytest.mark.timeout(120)),
        pytest.param(share(400), marks=[pytest.mark.long, pytest.mark.timeout(2000)]),
    ],
)
def test_signals_at_random_instants_end_the_agent_every_time(total: int) -> None:
    """Finding S3."""
    source = random.Random(total)
    with serving() as server:
        for count in bursts(total, seed=total):
            with tempfile.TemporaryDirectory(prefix="gv-", dir="/tmp") as made:
                folder = Path(made)
                process = AgentProcess(folder, server).process
                gaps = [source.uniform(0, STARTS_IN)] + [source.choice([0, 0, 0.01])] * (count - 1)
                send(process, [source.choice(ENDING) for _ in range(count)], gaps)

                status = ended(process, 30)
                log = (folder / "log").read_text()
                # Below 0: it came before the agent took signals, or in the interpreter's own exit. In the interpreter's own
                # start SIGINT is an error of its first import, and its status is 1.
                in_start = status == 1 and log.startswith("Could not import runpy module")
                assert in_start or status in (0, *(-number for number in ENDING)), log
                assert [path for path in (folder / "registry").iterdir() if status == 0] == []
