"""The verbs that the simulation adds to `gpuvitals`: `demo` and `inject`.

May live here: arguments, output, exit codes. May not: simulation; the verbs call `demo` and the scripted hardware. `gpuvitals` finds them by the entry-point group `gpuvitals.verbs`.
"""
