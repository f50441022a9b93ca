"""What all tests share: how hypothesis judges the machine, and which cases need the Go-built programs."""

import os

import pytest
from hypothesis import HealthCheck, settings

from support.long_runs import SLICE
from support.realkube.gate import REAL

# Two cores that others use too are slow now and then; that is no fault of a property or a strategy. In CI the examples
# are the same each time, so that a change is judged by what it changes; at a desk they are new ones each time.
settings.register_profile(
    "shared-machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=os.environ.get("CI") == "true" and not SLICE,
)
settings.load_profile("shared-machine")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without GPUVITALS_REAL=1 what needs Go is deselected: `make test` is Python only."""
    if not REAL:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("needs_go")])
        items[:] = [item for item in items if not item.get_closest_marker("needs_go")]
