"""Finds out which GPUs the driver enumerates, also when one of them does not answer. Parent side."""

import logging
from dataclasses import dataclass

from gpuvitals.model.gpu import Gpu
from gpuvitals.model.ids import GpuUuid
from gpuvitals.observability.logs import keys
from gpuvitals.signals.nvml_backend import DRIVER_CODES, DriverFacts, NvmlFailure
from gpuvitals.signals.nvml_identity import bus_id_from, gpu_from, with_expected_links
from gpuvitals.signals.nvml_link import CallHung, NvmlLink
from gpuvitals.signals.nvml_watchlist import Watched, Watchlist
from gpuvitals.signals.sysfs import SysfsTree

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What was found. `hung` are known GPUs that did not answer; `gpus` holds them too, as they were known.

    `hanging` counts the indexes that did not answer, also where no GPU can be blamed for one.
    """

    driver: DriverFacts
    gpus: tuple[Gpu, ...]
    hung: tuple[Watched, ...]
    hanging: int


def survey(link: NvmlLink, driver: DriverFacts, tree: SysfsTree, known: Watchlist) -> Survey:
    """Identifies index after index; one that hangs costs its worker, and the rest go on in the next.

    Raises what NvmlLink raises for failures that are not one GPU's.
    """
    found: dict[GpuUuid, Gpu] = {}
    hanging = 0
    for index in range(driver.gpu_count):
        try:
            gpu = _identified(link, index, driver, tree)
        except CallHung as error:
            log.error("gpu can't be identified", extra=keys(index=index, reason=str(error)))
            hanging += 1
            driver = link.open()
            continue
        if gpu is not None:
            found[gpu.uuid] = gpu
    # Where as many hang as are missing, these are they. An index alone never blames a GPU.
    missing = tuple(entry for entry in known if entry.gpu.uuid not in found)
    hung = missing if hanging and len(missing) == hanging else ()
    gpus = (*found.values(), *(entry.gpu for entry in hung))
    before = {entry.gpu.uuid: entry.gpu for entry in known}
    return Survey(driver=driver, gpus=with_expected_links(gpus, before), hung=hung, hanging=hanging)


def _identified(link: NvmlLink, index: int, driver: DriverFacts, tree: SysfsTree) -> Gpu | None:
    """The GPU at an index; None where it does not say who it is. Then it is missed by its absence."""
    try:
        facts = link.identify(index)
        return gpu_from(facts, driver, tree.placement(bus_id_from(facts.bus_id)))
    except NvmlFailure as failure:
        if failure.code in DRIVER_CODES:
            raise
        log.warning("gpu can't be identified", extra=keys(index=index, reason=str(failure)))
    except ValueError as error:
        log.warning("gpu can't be identified", extra=keys(index=index, reason=str(error)))
    return None
