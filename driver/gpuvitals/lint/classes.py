"""Rules about a DeviceClass.

The linter first collects the drivers that the classes of all files select, then applies these rules.
"""

from collections.abc import Iterator

from gpuvitals.lint.documents import View
from gpuvitals.lint.findings import Finding
from gpuvitals.lint.requests import Context, selected_drivers, selectors_findings


def class_drivers(device_class: View) -> tuple[str, frozenset[str]]:
    """The class's name, and the drivers that it selects; empty if it does not restrict the driver."""
    return device_class.at("metadata", "name").text, selected_drivers(device_class.get("spec"))


def class_findings(device_class: View, context: Context) -> Iterator[Finding]:
    """Findings about the selectors of the class."""
    yield from selectors_findings(device_class.get("spec"), context, frozenset(), of_class=True)
