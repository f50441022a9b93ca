"""The lock of the node image holds the imports of the agent and of every verb: none is missing, none is unneeded."""

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import pytest

from support.environments import AGENT_LOCK, ROOT, Environment, normal_name, pins
from support.fakes.nvml_mock import library
from support.worlds.agent_node import agent_node, serving

pytestmark = [pytest.mark.needs_cc, pytest.mark.timeout(120)]

RECORDER = '''
import os, sys

class Recorder:
    """Writes the name of every module that is looked up; it finds none itself."""

    def find_spec(self, name, path=None, target=None):
        os.write(FILE, f"{name}\\n".encode())

os.makedirs(os.environ["GPUVITALS_IMPORTS"], exist_ok=True)
FILE = os.open(f"{os.environ['GPUVITALS_IMPORTS']}/{os.getpid()}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
sys.meta_path.insert(0, Recorder())
'''
"""One file a process, since the agent's NVML worker is a process of its own. Each name is written before the import: a
process may be killed."""

LINE = "NVRM: Xid (PCI:0000:05:00): 79, GPU has fallen off the bus."
CLAIM = ROOT / "examples" / "claims" / "healthy-single" / "claim.yaml"

OPTIONAL = {
    "urllib3": {"backports", "brotli", "brotlicffi"},
    "tenacity": {"tornado"},
    "prometheus-client": {"snappy"},
    "grpcio": {"grpc_health", "grpc_reflection", "grpc_tools"},
    "the standard library's copy and pickle, for Jython": {"org"},
}
"""Modules that packages of the lock try to import and do without."""

INDIRECT = {"typing-extensions": "grpcio"}
"""Packages of the lock that our own code never imports, by the package that requires them."""


class Imports:
    """The modules that processes of the image looked up, by verb."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._verbs = folder / "verbs"
        (folder / "sitecustomize.py").write_text(RECORDER, encoding="ascii")

    def variables(self, verb: str) -> dict[str, str]:
        """The environment in which a process of this verb is recorded."""
        return {"PYTHONPATH": str(self._folder), "GPUVITALS_IMPORTS": str(self._verbs / verb)}

    @property
    def by_verb(self) -> dict[str, set[str]]:
        """Top-level names by verb."""
        return {
            verb.name: {
                name.partition(".")[0]
                for process in verb.iterdir()
                for name in process.read_text(encoding="utf-8").split()
            }
            for verb in self._verbs.iterdir()
        }

    @property
    def names(self) -> set[str]:
        """Top-level names that any verb looked up."""
        return set().union(*self.by_verb.values())


@pytest.fixture(scope="module")
def imports(image_environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Imports:
    """The agent on a mock NVML with one failed GPU, and beside it each verb of the image once."""
    recorded = Imports(tmp_path_factory.mktemp("recorder"))
    nvml = library(tmp_path_factory.mktemp("nvml"))
    with pytest.MonkeyPatch.context() as patch, serving() as server:
        for name, value in recorded.variables("node").items():
            patch.setenv(name, value)
        with agent_node(server, library=nvml, python=str(image_environment.python)) as node:
            gpu, state = node.name(3), str(node.folder / "plugins" / "gpuvitals")
            saved = node.folder / "saved.log"
            saved.write_text(f"4,1,456000000,-;{LINE}\n", encoding="ascii")
            node.gpus.xid(3, 79, "GPU has fallen off the bus.")
            node.agent.wait(lambda: node.shows(3, "Unhealthy"))
            runs = (
                (0, ["--help"]),
                (0, ["status", "--server", server.url]),
                (0, ["explain", "--line", LINE]),
                (0, ["explain", gpu, "--agent", state]),
                (0, ["explain", "node-a", gpu, "--server", server.url]),
                (1, ["forget", gpu, "--agent", state]),
                (0, ["report", "node-a", gpu, "bad", "--reason", "tried", "--server", server.url]),
                (0, ["replay", str(saved)]),
                (0, ["lint", str(CLAIM)]),
                (1, ["doctor", "--node-name", "node-a", "--server", server.url]),
                (2, ["demo"]),
            )

            def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
                return image_environment.program(*arguments, environment=recorded.variables(arguments[0]))

            with ThreadPoolExecutor(2) as pool:
                ends = list(pool.map(run, [arguments for _, arguments in runs]))
            for (code, arguments), done in zip(runs, ends, strict=True):
                assert done.returncode == code, f"{arguments}\n{done.stdout}{done.stderr}"
                assert "Traceback" not in done.stderr
            assert node.agent.end() == 0
    return recorded


def packages(environment: Environment) -> dict[str, str]:
    """The packages of the environment by the top-level names that they bring."""
    return {
        file.parts[0].removesuffix(".py"): normal_name(distribution.name)
        for distribution in metadata.distributions(path=[str(environment.packages)])
        for file in distribution.files or ()
        if file.suffix in (".py", ".so")
    }


def test_every_verb_of_the_image_was_run(imports: Imports, image_environment: Environment) -> None:
    verbs = re.findall(r"^    ([a-z]+) ", image_environment.program("--help").stdout, re.MULTILINE)
    assert "node" in verbs
    assert imports.by_verb.keys() >= set(verbs)


def test_every_package_of_the_lock_is_imported(imports: Imports, image_environment: Environment) -> None:
    brought = packages(image_environment)
    used = {brought[name] for name in imports.names if name in brought}
    assert used == {*pins(AGENT_LOCK), "gpuvitals"}


def test_no_module_is_missing_but_the_optional_ones(imports: Imports, image_environment: Environment) -> None:
    known = sys.stdlib_module_names | packages(image_environment).keys()
    assert imports.names - known <= set().union(*OPTIONAL.values())


def test_a_package_that_the_product_does_not_require_is_required_by_another(
    image_environment: Environment,
) -> None:
    """typing-extensions is in the image for grpcio, which imports it at start."""
    required = {
        normal_name(distribution.name): {normal_name(text) for text in distribution.requires or ()}
        for distribution in metadata.distributions(path=[str(image_environment.packages)])
    }
    assert pins(AGENT_LOCK).keys() - required["gpuvitals"] == INDIRECT.keys()
    for name, by in INDIRECT.items():
        assert name in required[by]


def test_only_the_worker_and_the_doctor_import_nvml(imports: Imports) -> None:
    """The agent's parent never maps NVIDIA's library; its worker is a process of the verb `node`."""
    assert {verb for verb, names in imports.by_verb.items() if "pynvml" in names} == {"node", "doctor"}
