"""The SBOM of the node image lists every package of the agent's lock, and only those."""

import json
import re
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from support.environments import AGENT_LOCK, Environment, normal_name, pins

BASE = f"docker.io/library/python@sha256:{'ab' * 32}"


@pytest.fixture(scope="module")
def sbom() -> Any:
    """The module. Its import takes a second (grammars of JSON formats), which the collection of other tests is spared."""
    return import_module("tools.sbom")


@pytest.fixture(scope="module")
def document(image_environment: Environment, sbom: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(sbom.bill_of_materials(image_environment.python, BASE))
    return found


@pytest.fixture
def changed(image_environment: Environment, tmp_path: Path) -> Environment:
    """A copy of the environment, to add packages to and take some away."""
    shutil.copytree(image_environment.folder, tmp_path / "gpuvitals", symlinks=True)
    return Environment(folder=tmp_path / "gpuvitals")


def libraries(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    components = (each for each in document["components"] if each["type"] == "library")
    return {normal_name(each["name"]): each for each in components}


def locked_hashes(name: str) -> set[str]:
    text = AGENT_LOCK.read_text(encoding="utf-8")
    (entry,) = re.findall(rf"^{name}==.*?(?=^[\w.-]+==|\Z)", text, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"sha256:([0-9a-f]{64})", entry))


def test_every_package_of_the_lock_is_listed_with_its_version(document: dict[str, Any]) -> None:
    assert {name: each["version"] for name, each in libraries(document).items()} == pins(AGENT_LOCK)


def test_every_package_has_the_hashes_of_the_lock(document: dict[str, Any]) -> None:
    for name, component in libraries(document).items():
        references = component["externalReferences"]
        listed = {found["content"] for each in references for found in each.get("hashes", [])}
        assert listed == locked_hashes(name)
        assert listed


def test_every_package_has_a_licence(document: dict[str, Any]) -> None:
    for component in [*libraries(document).values(), document["metadata"]["component"]]:
        for choice in component["licenses"]:
            licence = choice.get("license", choice)
            assert licence.get("id") or licence.get("name") or licence.get("expression")
        assert component["licenses"]


def test_the_subject_is_the_agent_and_the_base_is_one_component(document: dict[str, Any]) -> None:
    subject = document["metadata"]["component"]
    (base,) = (each for each in document["components"] if each["type"] == "container")

    assert (subject["name"], subject["version"]) == ("gpuvitals", "0.1.0")
    assert f"{base['name']}@{base['version']}" == BASE


def test_the_document_fits_the_schema(document: dict[str, Any]) -> None:
    schema, validation = import_module("cyclonedx.schema"), import_module("cyclonedx.validation.json")
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    assert validator.validate_str(json.dumps(document)) is None


def test_a_package_beside_the_lock_is_an_error(changed: Environment, sbom: Any) -> None:
    extra = changed.packages / "stowaway-1.0.dist-info"
    extra.mkdir()
    (extra / "METADATA").write_text("Metadata-Version: 2.1\nName: stowaway\nVersion: 1.0\n", encoding="utf-8")

    with pytest.raises(sbom.SbomError, match=r"installed and not in agent.txt: stowaway 1.0"):
        sbom.bill_of_materials(changed.python)


def test_a_package_that_is_not_installed_is_an_error_of_one_line(
    changed: Environment, sbom: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (installed,) = changed.packages.glob("tenacity-*.dist-info")
    shutil.rmtree(installed)

    assert sbom.main(["--python", str(changed.python), "--output", str(tmp_path / "sbom.json")]) == 1
    assert capsys.readouterr().err.startswith("sbom: in agent.txt and not installed: tenacity ")
    assert not (tmp_path / "sbom.json").exists()


def test_a_base_without_a_digest_is_an_error(image_environment: Environment, sbom: Any) -> None:
    with pytest.raises(sbom.SbomError, match="expected NAME@sha256:DIGEST"):
        sbom.bill_of_materials(image_environment.python, "python:3.11-slim-bookworm")
