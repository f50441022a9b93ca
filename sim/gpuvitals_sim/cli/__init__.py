"""The verbs that the simulation adds to `gpuvitals`: `demo` and `inject`.

May live here: arguments, the text that a person reads, exit codes. May not: work; the verbs call `demo` and the scripted
hardware. `gpuvitals` finds them by the entry-point group `gpuvitals.verbs`.
"""
