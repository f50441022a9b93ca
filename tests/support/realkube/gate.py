"""Whether the cases run that need the Go-built programs of tests/cluster: `make cluster-test` sets GPUVITALS_REAL=1."""

import os

import pytest

REAL = os.environ.get("GPUVITALS_REAL") == "1"
SIM_AND_REAL = ["sim", pytest.param("real", marks=pytest.mark.needs_go)] if REAL else ["sim"]
"""Parameters of a fixture whose cases always run on the simulation, and on the real server if it is enabled."""
