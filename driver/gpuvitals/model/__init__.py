"""The nouns every other package speaks: identities, GPUs, signals, verdicts, snapshots.

May live here: frozen dataclasses, enums, NewTypes and the Clock protocol. May not: behaviour that decides anything,
API dicts, protobuf messages, and any import of time, threads, files, the network, logging or a third-party module.
"""
