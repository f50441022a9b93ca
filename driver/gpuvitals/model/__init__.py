"""The vocabulary of all other packages: identities, GPUs, signals, verdicts and snapshots.

May live here: frozen dataclasses, enums, NewTypes and the Clock protocol. May not: decisions,
API dicts, protobuf messages, and any import of time, threads, files, the network, logging or a third-party module.
"""
