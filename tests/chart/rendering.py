"""The chart rendered by the real helm: the golden files, and the chart's page with its table of values.

`make chart` renders anew, `make check` compares. Run as `python -m chart.rendering` with tests/ on the path.
"""

import argparse
import difflib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cluster.build import BuildError, locate

Json = dict[str, Any]

HERE = Path(__file__).resolve().parent
CHART = HERE.parents[1] / "deploy" / "helm" / "gpuvitals"
RELEASE = NAMESPACE = "gpuvitals"
IMAGE = "--set=image.repository=registry.example/gpuvitals/agent"
"""The one value that an install has to give."""
_TABLE_BEGINS, _TABLE_ENDS = "<!-- values: made by `make chart` -->\n", "<!-- end of values -->\n"
_HELM_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueSet:
    """One way to install the chart: a file of values, none for the defaults, and what the cluster serves."""

    name: str
    values: bool = True
    kube_version: str = "1.37.2"
    api_versions: tuple[str, ...] = ()

    @property
    def golden(self) -> Path:
        return HERE / "golden" / f"{self.name}.yaml"

    @property
    def flags(self) -> list[str]:
        flags = [
            f"--kube-version={self.kube_version}",
            *(f"--api-versions={one}" for one in self.api_versions),
        ]
        return [*flags, f"--values={HERE / 'values' / self.name}.yaml"] if self.values else flags


SETS = (
    ValueSet(name="default", values=False),
    ValueSet(name="everything", api_versions=("monitoring.coreos.com/v1/PodMonitor",)),
    ValueSet(name="mocked-hardware"),
    ValueSet(name="host-network"),
    ValueSet(name="old-kubernetes", kube_version="1.34.4"),
)


def helm(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs helm with a home of its own. Raises BuildError where it is not built."""
    program = locate("helm", "helm")
    environment = {"HOME": "/nonexistent", "PATH": "/usr/bin:/bin", "KUBECONFIG": "/nonexistent"}
    return subprocess.run(
        [str(program), *arguments],
        capture_output=True,
        text=True,
        timeout=_HELM_SECONDS,
        check=False,
        env=environment,
    )


def template(*flags: str) -> "subprocess.CompletedProcess[str]":
    """`helm template` of the chart with an image and these flags."""
    return helm("template", RELEASE, str(CHART), f"--namespace={NAMESPACE}", IMAGE, *flags)


def rendered(values: ValueSet) -> str:
    """What this set gives. Raises RuntimeError with helm's words."""
    done = template(*values.flags)
    if done.returncode != 0:
        raise RuntimeError(f"{values.name}: {done.stderr.strip()}")
    return done.stdout


def objects(text: str) -> list[Json]:
    """The objects of a rendered chart."""
    return [document for document in yaml.safe_load_all(text) if document]


def golden_objects(name: str = "default") -> list[Json]:
    """The objects of a golden file; no helm is needed."""
    values = next(one for one in SETS if one.name == name)
    return objects(values.golden.read_text(encoding="utf-8"))


def one_of(found: Sequence[Json], kind: str, suffix: str = "") -> Json:
    """The only object of this kind whose name ends so."""
    (match,) = (each for each in found if each["kind"] == kind and each["metadata"]["name"].endswith(suffix))
    return match


def page() -> str:
    """The chart's README with its table as schema and values have it now."""
    text = (CHART / "README.md").read_text(encoding="utf-8")
    before, _, rest = text.partition(_TABLE_BEGINS)
    _, _, after = rest.partition(_TABLE_ENDS)
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    rows = [
        "| Value | Default | Meaning |",
        "|---|---|---|",
        *(f"| `{path}` | `{default}` | {text} |" for path, default, text in _rows(schema, values, "")),
    ]
    return before + _TABLE_BEGINS + "\n".join(rows) + "\n" + _TABLE_ENDS + after


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the golden files and the page, or with --check says what differs. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Renders the chart's golden files and its table of values.")
    parser.add_argument("--check", action="store_true", help="compare and write nothing")
    checking = parser.parse_args(arguments).check
    wanted = {CHART / "README.md": page()}
    try:
        wanted |= {values.golden: rendered(values) for values in SETS}
    except BuildError as error:
        if not checking:
            return _said(f"error: {error}")
        sys.stderr.write(f"chart: the golden files are not compared: {error}\n")
    differing = [path for path, text in wanted.items() if _content(path) != text]
    if checking:
        for path in differing:
            sys.stderr.writelines(_difference(path, wanted[path]))
        return _said("chart: run `make chart` and look at the difference") if differing else 0
    for path in differing:
        path.write_text(wanted[path], encoding="utf-8")
        sys.stderr.write(f"written: {path.name}\n")
    return 0


def _rows(schema: Json, values: Json, above: str) -> Iterator[tuple[str, str, str]]:
    for name, part in schema["properties"].items():
        path = f"{above}{name}"
        if name not in values:
            continue
        if part.get("additionalProperties") is False and values[name] and path != "resources":
            yield from _rows(part, values[name], f"{path}.")
            continue
        yield path, json.dumps(values[name]), _meaning(part)


def _meaning(part: Json) -> str:
    text = str(part["description"])
    if "enum" in part:
        text += " One of " + ", ".join(f"`{one}`" for one in part["enum"]) + "."
    if "minimum" in part and "maximum" in part:
        text += f" {part['minimum']} to {part['maximum']}."
    return text.replace("|", "\\|")


def _content(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _difference(path: Path, text: str) -> Iterator[str]:
    before, after = _content(path).splitlines(keepends=True), text.splitlines(keepends=True)
    return difflib.unified_diff(before, after, f"{path.name} (stored)", f"{path.name} (rendered)")


def _said(line: str) -> int:
    sys.stderr.write(f"{line}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
