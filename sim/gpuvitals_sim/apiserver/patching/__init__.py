"""Patch formats, one module each, as pure functions: (object, patch) -> new object.

May live here: the meaning of a patch document. May not: storage, validity, ownership of fields (see `managed_fields`).
"""
