"""The command line: one module for each verb.

May live here: arguments, texts for people, exit codes. May not: the work itself; verbs call `wiring` or a pure package.
Exit codes: 0 success, 1 failure, 2 bad input.
"""
