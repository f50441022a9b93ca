"""Where the NVIDIA driver's files are on a node: one search for NVML, for CDI files and for the image.

`layouts` is the table of platforms, `search` the pure search over a folder tree, `tree` the reader of real files.
Nothing here knows of NVML, CDI or Kubernetes.
"""
