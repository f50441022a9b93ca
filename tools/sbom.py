"""Writes the bill of materials of the node image: its Python packages with version, hashes, licence, as CycloneDX JSON.

Run in the image's build, and by `make sbom` for the lock alone. cyclonedx-py reads the packages from the environment and the hashes from
requirements/agent.txt; this program joins the two, since no single run of cyclonedx-py has both (docs/adr/060-sbom.md).
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

Json = dict[str, Any]

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "agent.txt"
SPECIFICATION = SchemaVersion.V1_6
_PYPROJECT = ROOT / "pyproject.toml"

_LICENCES = {"protobuf": "BSD-3-Clause"}
"""Licences of packages whose metadata names none. Source: the licence file in each package's wheel."""


class SbomError(Exception):
    """The bill of materials would be incomplete. The text names the packages."""


def bill_of_materials(python: Path, base: str = "") -> str:
    """CycloneDX JSON of the packages that the interpreter `python` finds, which must be those of the lock.

    `base` is the image below, `NAME@sha256:DIGEST`; it is listed as one container, without its packages.
    Raises SbomError.
    """
    document = _cyclonedx("environment", str(python), f"--pyproject={_PYPROJECT}")
    locked = {_key(each): each for each in _cyclonedx("requirements", str(LOCK))["components"]}
    _compare({_key(each): each for each in document["components"]}, locked)
    for component in document["components"]:
        _complete(component, locked[_key(component)])
    if base:
        document["components"].append(_container(base))
    text = json.dumps(document, indent=2, sort_keys=True)
    fault = JsonStrictValidator(SPECIFICATION).validate_str(text)
    if fault is not None:
        raise SbomError(f"the document violates the CycloneDX schema: {fault}")
    return text


@contextmanager
def _environment() -> Iterator[Path]:
    """The interpreter of a temporary environment with the packages of the lock. Needs a package index. Raises SbomError."""
    with tempfile.TemporaryDirectory(prefix="gpuvitals-sbom-") as folder:
        venv.create(folder, with_pip=False, symlinks=True)
        python = Path(folder) / "bin" / "python"
        _output(
            "uv",
            "pip",
            "install",
            "--quiet",
            f"--python={python}",
            "--require-hashes",
            f"--requirement={LOCK}",
        )
        yield python


def _output(module: str, *arguments: str) -> str:
    """The output of `python -m MODULE`. Raises SbomError."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        raise SbomError(f"{module} {arguments[0]} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


def _cyclonedx(*arguments: str) -> Json:
    """The document that one run of cyclonedx-py prints. Raises SbomError."""
    flags = ("--output-reproducible", "--no-validate", f"--spec-version={SPECIFICATION.to_version()}")
    document: Json = json.loads(_output("cyclonedx_py", *arguments, *flags))
    return document


def _key(component: Json) -> str:
    """The name in the normal form of package indexes, and the version: `pyyaml 6.0.3`."""
    return f"{re.sub(r'[-_.]+', '-', component['name']).lower()} {component.get('version', '')}"


def _compare(installed: dict[str, Json], locked: dict[str, Json]) -> None:
    missing, unknown = sorted(locked.keys() - installed.keys()), sorted(installed.keys() - locked.keys())
    if missing:
        raise SbomError(f"in {LOCK.name} and not installed: {', '.join(missing)}")
    if unknown:
        raise SbomError(f"installed and not in {LOCK.name}: {', '.join(unknown)}")


def _complete(component: Json, locked: Json) -> None:
    """Adds the hashes of the lock, and a licence if the package's metadata has none. Raises SbomError.

    The hashes are those of all files that pip may download for this version: pip does not record which one it installed.
    """
    component["externalReferences"] = [
        *component.get("externalReferences", []),
        *locked["externalReferences"],
    ]
    name = _key(component).split()[0]
    if not component.get("licenses"):
        if name not in _LICENCES:
            raise SbomError(f"{component['name']}: no licence in its metadata; add it to tools/sbom.py")
        component["licenses"] = [{"license": {"id": _LICENCES[name], "acknowledgement": "concluded"}}]


def _container(base: str) -> Json:
    """The base image as one component. Raises SbomError for a base that is not named by digest."""
    name, _, digest = base.partition("@sha256:")
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise SbomError(f"{base}: expected NAME@sha256:DIGEST")
    return {
        "type": "container",
        "bom-ref": base,
        "name": name,
        "version": f"sha256:{digest}",
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }


def main(arguments: list[str] | None = None) -> int:
    """Returns 0, or 1 if the packages differ from the lock or the document is not valid."""
    parser = argparse.ArgumentParser(prog="sbom", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--python",
        type=Path,
        help="the interpreter of the agent's environment; default: a new one of the lock",
    )
    parser.add_argument("--base", default="", help="the base image as NAME@sha256:DIGEST")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        with nullcontext(options.python) if options.python else _environment() as python:
            text = bill_of_materials(python, options.base)
    except SbomError as error:
        print(f"sbom: {error}", file=sys.stderr)
        return 1
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(f"{text}\n", encoding="utf-8")
    print(options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
