"""Finds out which GPUs the driver enumerates, also when one of them does not answer. Parent side."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from gpuvitals.model.gpu import Gpu
from gpuvitals.model.ids import GpuUuid
from gpuvitals.observability.logs import keys
from gpuvitals.signals.nvml.decode import bus_id_from, gpu_from, with_expected_links
from gpuvitals.signals.nvml.schedule import PollSchedule, Watched
from gpuvitals.signals.nvml.worker_client import CallHung, WorkerClient
from gpuvitals.signals.nvml_worker.protocol import DRIVER_CODES, UNKNOWN, DriverFacts, MigFacts, NvmlFailure
from gpuvitals.signals.sysfs import SysfsTree

log = logging.getLogger(__name__)

_MAX_GPUS = 255
"""GPUs that have a device node: minor 255 of the driver is nvidiactl. Source: NVIDIA/nvidia-modprobe, nvidia-modprobe-utils.h."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What was found. `hung` are known GPUs that did not answer; `gpus` holds them too, as they were known.

    `divisions` has how each GPU is divided into MIG instances, where it could be told.
    `hanging` counts the indexes that did not answer, also where no GPU can be blamed for one.
    """

    driver: DriverFacts
    gpus: tuple[Gpu, ...]
    divisions: Mapping[GpuUuid, MigFacts]
    hung: tuple[Watched, ...]
    hanging: int


def survey(link: WorkerClient, driver: DriverFacts, tree: SysfsTree, known: PollSchedule) -> Survey:
    """Identifies index after index; one that hangs costs its worker, and the rest go on in the next.

    Raises what WorkerClient raises for failures that are not one GPU's, and NvmlFailure for a count that can't be true.
    """
    if driver.gpu_count > _MAX_GPUS:
        raise NvmlFailure(UNKNOWN, f"the driver counts {driver.gpu_count} GPUs, more than {_MAX_GPUS}")
    found: dict[GpuUuid, Gpu] = {}
    divisions: dict[GpuUuid, MigFacts] = {}
    nameless: dict[int, str] = {}
    hanging = 0
    for index in range(driver.gpu_count):
        try:
            facts = _identified(link, index, driver, tree)
        except CallHung as error:
            nameless[index] = str(error)
            hanging += 1
            driver = link.open(attach=False)
            continue
        except (NvmlFailure, ValueError) as error:
            if isinstance(error, NvmlFailure) and error.code in DRIVER_CODES:
                raise
            nameless[index] = str(error)
            continue
        gpu, mig = facts
        found[gpu.uuid] = gpu
        if mig is not None:
            divisions[gpu.uuid] = mig
    _tell(known.nameless, nameless)
    known.nameless = nameless
    # Where as many hang as are missing, these are they. An index alone never blames a GPU.
    slots = {gpu.bus_id for gpu in found.values()}
    missing = tuple(entry for entry in known if entry.gpu.uuid not in found and entry.gpu.bus_id not in slots)
    hung = missing if hanging and len(missing) == hanging else ()
    gpus = (*found.values(), *(entry.gpu for entry in hung))
    before = {entry.gpu.uuid: entry.gpu for entry in known}
    return Survey(
        driver=driver,
        gpus=with_expected_links(gpus, before),
        divisions=divisions,
        hung=hung,
        hanging=hanging,
    )


def _identified(
    link: WorkerClient, index: int, driver: DriverFacts, tree: SysfsTree
) -> tuple[Gpu, MigFacts | None]:
    """The GPU at an index and how it is divided. Raises ValueError where it does not say who it is."""
    facts = link.identify(index)
    return gpu_from(facts, driver, tree.placement(bus_id_from(facts.bus_id))), facts.mig


def _tell(before: Mapping[int, str], now: Mapping[int, str]) -> None:
    """Logs what changed: a lost GPU is asked for its name as often as somebody asks for it."""
    for index, reason in now.items():
        if before.get(index) != reason:
            log.warning("gpu can't be identified", extra=keys(index=index, reason=reason))
    for index in before.keys() - now.keys():
        log.info("gpu can be identified again", extra=keys(index=index))
