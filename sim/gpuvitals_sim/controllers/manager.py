"""Runs the controllers: one thread, woken by changes and by time.

Place in the chain: `gpuvitals_sim.cluster` and tests start one per API server.
Source: kubernetes/kubernetes cmd/kube-controller-manager (list of controllers).
"""

import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from gpuvitals_sim.apiserver import ApiError, InProcessClient
from gpuvitals_sim.controllers.claims import ClaimController
from gpuvitals_sim.controllers.disruption import BudgetController
from gpuvitals_sim.controllers.garbage_collector import GarbageCollector
from gpuvitals_sim.controllers.jobs import JobController
from gpuvitals_sim.controllers.namespaces import NamespaceController
from gpuvitals_sim.controllers.nodes import NodeController
from gpuvitals_sim.controllers.replicasets import ReplicaSetController
from gpuvitals_sim.controllers.taint_eviction import TaintEvictionController

_IDLE_SECONDS = 0.5
_AFTER_CONFLICT_SECONDS = 0.02
_AFTER_ERROR_SECONDS = 1.0
_STOP_SECONDS = 5.0


class Controller(Protocol):
    """One control loop.

    `kinds` are the store ids whose changes wake it; empty means all. `reconcile` makes the smallest writes and returns
    the seconds until the next pass without a change, or None. It may raise a conflict (409): the pass is repeated. It
    runs on the manager's thread.
    """

    @property
    def kinds(self) -> frozenset[str]: ...

    def reconcile(self) -> float | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerSettings:
    """`rule_status_seconds`: how long a DeviceTaintRule's condition stands before it is computed again.

    `job_backoff_seconds`: the wait of a Job after its first failed pod, doubled with each further one.
    """

    rule_status_seconds: float = 10.0
    job_backoff_seconds: float = 10.0


def _controllers(client: InProcessClient, settings: ControllerSettings) -> tuple[Controller, ...]:
    """The controllers of a cluster; those whose kinds the server does not serve do nothing."""
    return (
        JobController(client, backoff_seconds=settings.job_backoff_seconds),
        ReplicaSetController(client),
        ClaimController(client),
        TaintEvictionController(client, rule_status_seconds=settings.rule_status_seconds),
        BudgetController(client),
        NodeController(client),
        NamespaceController(client),
        GarbageCollector(client),
    )


class ControllerManager:
    """The controllers of one cluster. Use as a context manager, or `start` and `stop`.

    `failures` are errors of controllers, other than conflicts; such a pass is repeated after a second.
    """

    def __init__(
        self,
        client: InProcessClient,
        *,
        settings: ControllerSettings | None = None,
    ) -> None:
        self._client = client
        self._controllers = _controllers(client, settings or ControllerSettings())
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sim-controllers", daemon=False)
        self.failures: list[Exception] = []

    def start(self) -> "ControllerManager":
        """Starts the thread."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stops and joins the thread."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_SECONDS)

    def __enter__(self) -> "ControllerManager":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self) -> None:
        due = dict.fromkeys(self._controllers, 0.0)
        with self._client.changes() as changes:
            while not self._stopping.is_set():
                now = time.monotonic()
                for controller in self._controllers:
                    if due[controller] <= now:
                        due[controller] = self._pass(controller)
                wait = min(min(due.values()) - time.monotonic(), _IDLE_SECONDS)
                change = changes.next(max(wait, 0.0))
                while change is not None:
                    for controller in self._controllers:
                        if not controller.kinds or change.key.store_id in controller.kinds:
                            due[controller] = 0.0
                    change = changes.next(0.0)
                if changes.ended:
                    return

    def _pass(self, controller: Controller) -> float:
        """Runs one pass. Returns the monotonic time of the next one."""
        try:
            again = controller.reconcile()
        except ApiError as error:
            if error.code in (404, 409):
                return time.monotonic() + _AFTER_CONFLICT_SECONDS
            self.failures.append(error)
            return time.monotonic() + _AFTER_ERROR_SECONDS
        except Exception as error:  # noqa: BLE001 - one controller's bug must not stop the others; it is kept
            self.failures.append(error)
            return time.monotonic() + _AFTER_ERROR_SECONDS
        return float("inf") if again is None else time.monotonic() + again
