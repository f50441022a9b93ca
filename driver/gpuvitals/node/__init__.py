"""The node agent's loop: it owns the health state of the node's GPUs and its memory on disk.

May live here: the agent that folds signals into snapshots, its queue, its store, its decisions about other parts. May
not: parsers, wire protocols, API calls; those are edges, which `wiring` passes in.
"""
