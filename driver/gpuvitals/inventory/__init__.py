"""Projects the snapshot onto what the cluster sees: devices, slices, taints, claim entries, the node report.

May live here: pure functions from snapshot to frozen dataclasses in the API's words. May not: API dicts (the `kube`
edge encodes these dataclasses), clocks, files, threads, the network.
"""
