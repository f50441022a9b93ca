"""The loop of the DaemonSet: the owner of health state, and its memory on disk.

May live here: the agent that folds signals into snapshots, its queue, its store. May not: a parser, a protocol, an
API call; those are edges, and `wiring` hands them in.
"""
