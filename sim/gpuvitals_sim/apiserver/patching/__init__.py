"""Patch formats, one module each, as pure functions: (object, patch) -> new object.

May live here: what a patch document means. May not: storage, validity, who owns a field (see `ownership`).
"""
