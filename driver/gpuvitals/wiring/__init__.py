"""The composition roots, one a program: long-lived parts are constructed here and nowhere else.

May live here: which part gets which, in which order they start and stop. May not: decisions, parsing, protocols.
"""
