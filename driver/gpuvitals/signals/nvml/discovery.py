"""Surveys the GPUs that the driver enumerates, also while one of them hangs. Agent's side."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from gpuvitals.model.gpu import Gpu
from gpuvitals.model.ids import GpuUuid
from gpuvitals.observability.logs import keys
from gpuvitals.signals.nvml.decode import bus_id_from, gpu_from, with_expected_links
from gpuvitals.signals.nvml.schedule import PollEntry, PollSchedule
from gpuvitals.signals.nvml.worker_client import CallHung, WorkerClient
from gpuvitals.signals.nvml_worker.protocol import DRIVER_CODES, UNKNOWN, DriverFacts, MigFacts, NvmlFailure
from gpuvitals.signals.sysfs import SysfsTree

log = logging.getLogger(__name__)

_MAX_GPUS = 255
"""GPUs with a device node: minor 255 of the driver is nvidiactl. Source: NVIDIA/nvidia-modprobe, nvidia-modprobe-utils.h."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The result of a survey. `hung` are known GPUs that hang; `gpus` holds them too, with their known facts.

    `divisions` has the MIG facts of each GPU that gave them. `hanging` counts the indexes whose call hung, whether or
    not a GPU could be blamed.
    """

    driver: DriverFacts
    gpus: tuple[Gpu, ...]
    divisions: Mapping[GpuUuid, MigFacts]
    hung: tuple[PollEntry, ...]
    hanging: int


def survey(client: WorkerClient, driver: DriverFacts, tree: SysfsTree, schedule: PollSchedule) -> Survey:
    """Identifies the GPU of each index. A call that hangs costs its worker, and a new worker identifies the rest.

    Raises the errors of WorkerClient that are not about one GPU, and NvmlFailure for an impossible number of GPUs.
    """
    if driver.gpu_count > _MAX_GPUS:
        raise NvmlFailure(UNKNOWN, f"the driver counts {driver.gpu_count} GPUs, more than {_MAX_GPUS}")
    found: dict[GpuUuid, Gpu] = {}
    divisions: dict[GpuUuid, MigFacts] = {}
    unidentified: dict[int, str] = {}
    hanging = 0
    for index in range(driver.gpu_count):
        try:
            gpu, mig = _identified(client, index, driver, tree)
        except CallHung as error:
            unidentified[index] = str(error)
            hanging += 1
            driver = client.open(attach=False)
            continue
        except (NvmlFailure, ValueError) as error:
            if isinstance(error, NvmlFailure) and error.code in DRIVER_CODES:
                raise
            unidentified[index] = str(error)
            continue
        found[gpu.uuid] = gpu
        if mig is not None:
            divisions[gpu.uuid] = mig
    _log_changes(schedule.unidentified, unidentified)
    schedule.unidentified = unidentified
    hung = _hung(found, hanging, schedule)
    known = {entry.gpu.uuid: entry.gpu for entry in schedule}
    return Survey(
        driver=driver,
        gpus=with_expected_links((*found.values(), *(entry.gpu for entry in hung)), known),
        divisions=divisions,
        hung=hung,
        hanging=hanging,
    )


def _hung(found: Mapping[GpuUuid, Gpu], hanging: int, schedule: PollSchedule) -> tuple[PollEntry, ...]:
    """The known GPUs that hang: all missing ones, if as many indexes hang. An index alone identifies no GPU."""
    slots = {gpu.bus_id for gpu in found.values()}
    missing = tuple(
        entry for entry in schedule if entry.gpu.uuid not in found and entry.gpu.bus_id not in slots
    )
    return missing if hanging and len(missing) == hanging else ()


def _identified(
    client: WorkerClient, index: int, driver: DriverFacts, tree: SysfsTree
) -> tuple[Gpu, MigFacts | None]:
    """The GPU at an index and its MIG facts. Raises ValueError for an invalid identity."""
    facts = client.identify(index)
    return gpu_from(facts, driver, tree.placement(bus_id_from(facts.bus_id))), facts.mig


def _log_changes(before: Mapping[int, str], now: Mapping[int, str]) -> None:
    """Logs changes only, since a survey repeats for as long as a GPU is lost."""
    for index, reason in now.items():
        if before.get(index) != reason:
            log.warning("gpu can't be identified", extra=keys(index=index, reason=reason))
    for index in before.keys() - now.keys():
        log.info("gpu can be identified again", extra=keys(index=index))
