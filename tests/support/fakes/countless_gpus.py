"""A backend of the NVML worker whose library counts GPUs without end."""

from typing import NoReturn

from gpuvitals.signals.nvml_worker.protocol import UNKNOWN, DriverFacts, NvmlFailure


class Countless:
    """Has no GPU under any index."""

    def open(self, *, attach: bool) -> DriverFacts:
        return DriverFacts(driver_version="570.1", cuda_driver_version="12.8", gpu_count=2**32 - 1)

    def identify(self, index: int) -> NoReturn:
        raise NvmlFailure(UNKNOWN, f"no GPU {index}")
