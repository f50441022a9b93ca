"""The contents of the two wheels, and the verbs of each in an empty environment."""

import re
import zipfile
from pathlib import Path

import pytest

from support.environments import RUN_LOCK, Environment, new_environment


@pytest.fixture
def product_only(image_environment: Environment) -> Environment:
    """`pip install gpuvitals`."""
    return image_environment


@pytest.fixture(scope="module")
def with_simulation(tmp_path_factory: pytest.TempPathFactory, product: Path, simulation: Path) -> Environment:
    """`pip install gpuvitals[sim]`."""
    made = new_environment(tmp_path_factory.mktemp("sim") / "venv", RUN_LOCK)
    made.install(product)
    made.install(simulation)
    return made


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def metadata_of(wheel: Path, file: str) -> str:
    (name,) = (each for each in contents(wheel) if each.endswith(f".dist-info/{file}"))
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(name).decode("utf-8")


def verbs(environment: Environment) -> list[str]:
    done = environment.program("--help")
    assert done.returncode == 0, done.stderr
    return re.findall(r"^    ([a-z]+) ", done.stdout, re.MULTILINE)


def test_each_wheel_holds_its_package_alone(product: Path, simulation: Path) -> None:
    assert {name.partition("/")[0] for name in contents(product)} == {
        "gpuvitals",
        "gpuvitals-0.1.0.dist-info",
    }
    assert {name.partition("/")[0] for name in contents(simulation)} == {
        "gpuvitals_sim",
        "gpuvitals_sim-0.1.0.dist-info",
    }


def test_no_wheel_holds_tests_or_bytecode(product: Path, simulation: Path) -> None:
    files = contents(product) | contents(simulation)
    assert [name for name in files if re.search(r"(^|/)(tests?|conftest\.py|__pycache__)(/|$)", name)] == []


def test_every_file_that_a_package_reads_is_in_its_wheel(product: Path, simulation: Path) -> None:
    assert "gpuvitals_sim/scenarios/xid79.yaml" in contents(simulation)
    assert any(name.endswith("_pb2.py") for name in contents(product))


@pytest.mark.parametrize(
    ("wheel", "required"),
    [
        pytest.param("product", ["Requires-Dist: gpuvitals-sim==0.1.0; extra == 'sim'"], id="product"),
        pytest.param("simulation", ["Requires-Dist: gpuvitals[kubeconfig]==0.1.0"], id="simulation"),
    ],
)
def test_each_wheel_has_metadata_and_licence(
    wheel: str, required: list[str], request: pytest.FixtureRequest
) -> None:
    built: Path = request.getfixturevalue(wheel)
    text = metadata_of(built, "METADATA")

    for line in ("License-Expression: Apache-2.0", "License-File: LICENSE", "Requires-Python: >=3.11"):
        assert f"\n{line}\n" in text
    for line in required:
        assert f"\n{line}\n" in text
    assert "Apache License" in metadata_of(built, "licenses/LICENSE")


def test_the_entry_points_are_the_program_and_the_verbs_of_the_simulation(
    product: Path, simulation: Path
) -> None:
    assert metadata_of(product, "entry_points.txt").split() == [
        "[console_scripts]",
        *["gpuvitals", "=", "gpuvitals.cli.main:main"],
    ]
    assert metadata_of(simulation, "entry_points.txt").split() == [
        "[gpuvitals.verbs]",
        *["demo", "=", "gpuvitals_sim.cli.demo"],
        *["inject", "=", "gpuvitals_sim.cli.inject"],
    ]


def test_the_product_alone_has_its_verbs_and_version(product_only: Environment) -> None:
    assert verbs(product_only) == [
        *["node", "status", "explain", "forget", "replay", "report", "lint", "doctor"],
    ]
    assert product_only.program("--version").stdout == "gpuvitals 0.1.0\n"


@pytest.mark.parametrize("verb", ["demo", "inject"])
def test_the_product_alone_prints_how_to_install_the_simulation(product_only: Environment, verb: str) -> None:
    done = product_only.program(verb)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"gpuvitals: {verb}: the simulated cluster is not installed; "
        "install it with: pip install 'gpuvitals[sim]'\n"
    )


def test_the_product_alone_prints_how_to_install_the_reader_of_kubeconfigs(
    product_only: Environment, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text("apiVersion: v1\nkind: Config\n", encoding="utf-8")
    done = product_only.program("status", "--kubeconfig", str(config))

    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert "pip install 'gpuvitals[kubeconfig]'" in done.stderr


def test_with_the_simulation_there_are_its_verbs_too(with_simulation: Environment) -> None:
    assert verbs(with_simulation)[-2:] == ["demo", "inject"]
    assert "xid79" in with_simulation.program("demo", "--list").stdout


@pytest.mark.timeout(150)
def test_with_the_simulation_a_scenario_plays(with_simulation: Environment) -> None:
    done = with_simulation.program("demo", "--scenario", "xid79")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Unhealthy, score 0, class failed, reason Xid79" in done.stdout
