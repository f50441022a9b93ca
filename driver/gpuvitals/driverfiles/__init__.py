"""The search for the NVIDIA driver's files on a node, shared by NVML and the CDI files.

`layouts` is the table of platforms, `search` the pure search over a folder tree, `tree` the reader of real files. May
not live here: NVML, CDI, Kubernetes.
"""
