"""The claims' expression language as the API server and the scheduler evaluate it for devices.

May live here: compiling, checking and evaluating selectors, and the Kubernetes types in them. May not: allocation.
Not simulated, so refused: addresses (`ip`, `cidr`), `url`, macros of two variables. Not refused: what is too complex.
"""

from gpuvitals_sim.cel.device import CelDevice
from gpuvitals_sim.cel.selector import CelError, CompileError, Selector, compile_errors, compiled

__all__ = ["CelDevice", "CelError", "CompileError", "Selector", "compile_errors", "compiled"]
