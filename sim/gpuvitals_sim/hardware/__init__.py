"""Scripted GPUs: one state file per node, and the interfaces of driver and kernel derived from it.

May live here: the state file and its readers: kernel log, sysfs, driver files, and the backend of the NVML worker. May
not: anything about Kubernetes.
"""
