"""What is special about single kinds: defaults, preparation, validation, immutable fields, graceful deletion.

May live here: rules that look at one object, or at its old and new version. May not: other objects, storage.
`table.py` says which rules belong to which kind; a kind without a row has only the common ones.
"""
