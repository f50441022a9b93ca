"""The rules of single kinds: defaults, preparation, validation, immutable fields, graceful deletion.

May live here: rules over one object, or over its old and new version. May not: other objects, storage. `table.py` maps
kinds to rules; a kind without a row has only the common ones.
"""
