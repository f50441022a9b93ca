"""The control plane of a simulated cluster: API server, controllers and scheduler.

Place in the chain: under `cluster.py`; tests without nodes use it alone.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from gpuvitals_sim.apiserver import ApiServer, ApiSettings
from gpuvitals_sim.cel import compile_errors
from gpuvitals_sim.controllers import ControllerManager
from gpuvitals_sim.scheduler import Scheduler

CHECKING_CEL = ApiSettings(cel_checker=compile_errors)
"""An API server that refuses selectors that do not compile, as a real one does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlPlane:
    """A running control plane."""

    server: ApiServer
    controllers: ControllerManager
    scheduler: Scheduler

    @property
    def failures(self) -> tuple[Exception, ...]:
        """Bugs of the simulation met so far; a test should find none."""
        return (*self.server.failures, *self.controllers.failures)


@contextmanager
def control_plane(api: ApiSettings = CHECKING_CEL, *, controllers: bool = True) -> Iterator[ControlPlane]:
    """A control plane that is stopped at the end of the block; without `controllers` they are not started."""
    with ApiServer(settings=api) as server, ExitStack() as running:
        control = ControlPlane(
            server=server,
            controllers=ControllerManager(server.client("kube-controller-manager")),
            scheduler=Scheduler(server.url),
        )
        for part in (control.controllers, control.scheduler) if controllers else (control.scheduler,):
            running.callback(part.stop)
            part.start()
        yield control
