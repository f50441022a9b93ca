"""Projects the snapshot onto Kubernetes objects: devices, slices, taints, claim entries, the node report, events.

May live here: pure functions from snapshot to frozen dataclasses in the API's words. May not: API dicts (the `kube`
edge encodes these dataclasses), clocks, files, threads, the network.
"""
