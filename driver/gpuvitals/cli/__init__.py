"""What a person or a container starts: one file a verb.

May live here: arguments, the text that a person reads, exit codes. May not: work; verbs call `wiring` or a pure package.
Exit codes: 0 it held, 1 it did not, 2 the input was wrong.
"""
