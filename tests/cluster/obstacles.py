"""What stands in the way of an agent that prepares claims: nobody changes the agent for it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from cluster.agent import Agent
from cluster.devicenodes import make_device_nodes


@contextmanager
def without_device_nodes(agent: Agent) -> Iterator[None]:
    """The nodes of the GPUs are not there yet, as on a node whose driver has just come up."""
    for path in (agent.gpus.driver_root / "dev").glob("nvidia[0-9]*"):
        path.unlink()
    try:
        yield
    finally:
        for gpu in range(len(agent.gpus.gpus)):
            (agent.gpus.driver_root / "dev" / f"nvidia{gpu}").touch()
        make_device_nodes(agent.gpus)


@contextmanager
def locked_checkpoint(agent: Agent) -> Iterator[None]:
    """Somebody else holds the lock of the checkpoint, so nothing can be recorded."""
    path = next(agent.state.glob("checkpoint*.lock"))
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def frozen(agent: Agent) -> Iterator[None]:
    """The agent's processes stand still; its sockets take connections and nobody answers."""
    agent.freeze()
    try:
        yield
    finally:
        agent.thaw()
