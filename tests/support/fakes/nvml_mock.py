"""Builds the mock libnvidia-ml.so.1 of tools/nvml_mock and writes the state file that drives it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = sorted((Path(__file__).parents[3] / "tools" / "nvml_mock").glob("*.c"))


def library(directory: Path, *flags: str) -> Path:
    """The folder for LD_LIBRARY_PATH. Skips without a compiler, and fails instead if CI is true."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no C compiler (cc, gcc, clang) on PATH; CI must run the NVML library tests")
        pytest.skip("no C compiler (cc, gcc, clang) on PATH: the mock libnvidia-ml.so.1 can't be built")
    target = directory / "libnvidia-ml.so.1"
    flags = (
        "-shared",
        "-fPIC",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-Wl,-soname,libnvidia-ml.so.1",
        *flags,
    )
    sources = [str(source) for source in SOURCES]
    subprocess.run([compiler, *flags, "-o", str(target), *sources, "-lpthread"], check=True, timeout=60)
    return directory


class MockState:
    """The state of the mock: eight healthy GPUs with 18 links, until a test changes them."""

    def __init__(self, path: Path, gpus: int = 8) -> None:
        self.path = path
        self._node = {"driver_version": "595.45.04", "cuda": "13020"}
        self._gpus: list[dict[str, str]] = [self._healthy(index) for index in range(gpus)]
        self._events: list[str] = []
        self.write()

    @staticmethod
    def uuid(index: int) -> str:
        """The UUID of a GPU."""
        return f"GPU-00000000-0000-0000-0000-{index:012d}"

    def set(self, index: int, facts: dict[str, int | str]) -> None:
        """Sets facts of one GPU, by the keys that the C sources list."""
        self._gpus[index] |= {key: str(value) for key, value in facts.items()}
        self.write()

    def drop(self, index: int, key: str) -> None:
        """Takes a fact away."""
        del self._gpus[index][key]
        self.write()

    def divide(self, index: int, *instances: int) -> None:
        """Switches MIG on and divides the GPU into instances `1g.10gb` of these GPU instance ids, and no others."""
        facts = {key: value for key, value in self._gpus[index].items() if not key.startswith("mig")}
        facts["migmode"] = "1"
        for place, number in enumerate(instances):
            facts |= {
                f"mig.{place}.uuid": self.instance(index, number),
                f"mig.{place}.name": f"{facts['name']} MIG 1g.10gb",
                f"mig.{place}.gi": str(number),
                f"mig.{place}.start": str(max(0, number - 7)),
            }
        self._gpus[index] = facts
        self.write()

    @staticmethod
    def instance(index: int, number: int) -> str:
        """The UUID of an instance that `divide` makes."""
        return f"MIG-00000000-0000-0000-{index:04d}-{number:012d}"

    def node(self, facts: dict[str, int | str]) -> None:
        """Sets facts of the driver."""
        self._node |= {key: str(value) for key, value in facts.items()}
        self.write()

    def event(self, index: int, kind: int, data: int = 0, instance: int | None = None) -> None:
        """An event about a GPU, or one of its MIG instances, by its nvmlEventType number."""
        whom = "" if instance is None else f" {instance}"
        self._events.append(f"event {len(self._events) + 1} {index} {kind:#x} {data}{whom}")
        self.write()

    def fail_wait(self, code: int) -> None:
        """The event wait fails once, with that number of nvmlReturn_t."""
        self._events.append(f"waitfails {len(self._events) + 1} {code}")
        self.write()

    def write(self) -> None:
        """Replaces the file."""
        lines = [f"node {key} {value}" for key, value in self._node.items()]
        for index, facts in enumerate(self._gpus):
            lines += [f"gpu {index} {key} {value}" for key, value in facts.items()]
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text("\n".join(lines + self._events) + "\n", encoding="utf-8")
        temporary.replace(self.path)

    def _healthy(self, index: int) -> dict[str, str]:
        facts = {
            "uuid": self.uuid(index),
            "bus": f"00000000:{0x1B + index:02X}:00.0",
            "name": "NVIDIA H100 80GB HBM3",
            "serial": f"16{index:011d}",
            "links": "18",
            "field.91": "18",
            "field.230": "0",
        }
        return facts | {f"linkstate.{link}": "1" for link in range(18)}
