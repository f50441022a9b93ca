"""Runs the worker's own backend in this process, and records time and answer of every call of the binding.

Run as `python -m tools.gpu_check.calls`: one JSON document on stdout. The parent has the deadline.
"""

import ctypes
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pynvml

from gpuvitals.signals.nvml_worker.protocol import NvmlFailure
from gpuvitals.signals.nvml_worker.pynvml_backend import PynvmlBackend

ROUNDS = 5
_HIDDEN_FIELDS = frozenset({"clusterUuid", "busIdLegacy", "timestamp", "latencyUsec"})
_HIDDEN_CALLS = frozenset({"nvmlDeviceGetSerial", "nvmlDeviceGetBoardId"})
_MAX_ANSWERS = 12


class Recorder:
    """Times the functions of pynvml, and keeps the first distinct answers of each."""

    def __init__(self) -> None:
        self._calls: dict[str, dict[str, Any]] = {}

    def install(self) -> None:
        """Replaces every nvml function of the binding with a timed one."""
        for name in dir(pynvml):
            function = getattr(pynvml, name)
            if name.startswith("nvml") and callable(function) and not isinstance(function, type):
                setattr(pynvml, name, self._timed(name, function))

    def document(self) -> dict[str, Any]:
        """The calls by name, with their times in microseconds."""
        return {name: self._shown(entry) for name, entry in sorted(self._calls.items())}

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                value = function(*arguments, **named)
            except pynvml.NVMLError as error:
                self._keep(name, time.perf_counter() - began, int(error.value), str(error))
                raise
            seconds = time.perf_counter() - began
            structures = [each._obj for each in arguments if hasattr(each, "_obj")]
            self._keep(name, seconds, 0, plain([value, *structures] if structures else value))
            return value

        return call

    def _keep(self, name: str, seconds: float, code: int, answer: Any) -> None:
        entry = self._calls.setdefault(name, {"seconds": [], "results": {}, "answers": []})
        entry["seconds"].append(seconds)
        entry["results"][str(code)] = entry["results"].get(str(code), 0) + 1
        if name in _HIDDEN_CALLS:
            return
        if answer not in entry["answers"] and len(entry["answers"]) < _MAX_ANSWERS:
            entry["answers"].append(answer)

    def _shown(self, entry: dict[str, Any]) -> dict[str, Any]:
        times = sorted(entry["seconds"])
        return {
            "count": len(times),
            "median_us": round(1e6 * times[len(times) // 2], 1),
            "max_us": round(1e6 * times[-1], 1),
            "results": entry["results"],
            "answers": entry["answers"],
        }


def plain(value: Any) -> Any:
    """An answer as JSON, without handles and without fields that identify a board."""
    if isinstance(value, bytes):
        return value.rstrip(b"\0").decode("utf-8", "replace")
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    if isinstance(value, ctypes.Union):
        return bytes(value).hex()
    if isinstance(value, ctypes.Structure):
        names = [field[0] for field in value._fields_ if field[0] not in _HIDDEN_FIELDS]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, list | tuple | ctypes.Array):
        return [plain(each) for each in value]
    return f"<{type(value).__name__}>"


def main() -> int:
    """Prints the calls and the worker's readings. Returns 0, or 1 if the driver can't be opened."""
    recorder, backend = Recorder(), PynvmlBackend()
    recorder.install()
    document: dict[str, Any] = {"gpus": []}
    try:
        driver = backend.open(attach=True)
        document["driver"] = msgspec.to_builtins(driver)
        for index in range(driver.gpu_count):
            document["gpus"].append(_gpu(backend, index))
    except NvmlFailure as failure:
        document["failure"] = {"code": failure.code, "message": str(failure)}
    document["calls"] = recorder.document()
    json.dump(document, sys.stdout)
    return 1 if "failure" in document else 0


def _gpu(backend: PynvmlBackend, index: int) -> dict[str, Any]:
    """Everything that the worker reads of one GPU, failures included."""
    try:
        facts = backend.identify(index)
        found: dict[str, Any] = {"facts": msgspec.to_builtins(facts)}
        backend.watch(facts.uuid, facts.bus_id)
        for _ in range(ROUNDS):
            found["values"] = msgspec.to_builtins(backend.read(facts.uuid, facts.bus_id))
        found["checkup"] = msgspec.to_builtins(backend.check(facts.uuid, facts.bus_id))
        backend.probe(facts.uuid, facts.bus_id)
    except NvmlFailure as failure:
        return {"index": index, "failure": {"code": failure.code, "message": str(failure)}}
    return found


if __name__ == "__main__":
    sys.exit(main())
