"""The claims' expression language as the API server and the scheduler evaluate it for devices.

May live here: compiling, checking and evaluating selectors, and the Kubernetes types in them. May not: allocation.
"""

from gpuvitals.sim.cel.device import CelDevice
from gpuvitals.sim.cel.selector import CelError, CompileError, Selector, compile_errors, compiled

__all__ = ["CelDevice", "CelError", "CompileError", "Selector", "compile_errors", "compiled"]
