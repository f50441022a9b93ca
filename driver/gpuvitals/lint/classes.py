"""Rules about a DeviceClass.

Place in the chain: the linter calls it, and asks it first which drivers the classes of all files keep in.
"""

from collections.abc import Iterator

from gpuvitals.lint.documents import View
from gpuvitals.lint.findings import Finding
from gpuvitals.lint.requests import Context, selected_drivers, selectors_findings


def class_drivers(device_class: View) -> tuple[str, frozenset[str]]:
    """The class's name, and the drivers whose devices it can hold; none where nothing says."""
    return device_class.at("metadata", "name").text, selected_drivers(device_class.get("spec"))


def class_findings(device_class: View, context: Context) -> Iterator[Finding]:
    """Findings of its selectors."""
    yield from selectors_findings(device_class.get("spec"), context, frozenset(), of_class=True)
