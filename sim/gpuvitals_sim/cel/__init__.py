"""CEL selectors of devices, checked and evaluated as in the API server and the scheduler.

May live here: compiling, checking and evaluating selectors, and the Kubernetes types in them. May not: allocation.
Not simulated and therefore refused: addresses (`ip`, `cidr`), `url`, macros of two variables. There is no cost limit.
"""

from gpuvitals_sim.cel.device import CelDevice
from gpuvitals_sim.cel.selector import CelError, CompileError, Selector, compile_errors, compiled

__all__ = ["CelDevice", "CelError", "CompileError", "Selector", "compile_errors", "compiled"]
