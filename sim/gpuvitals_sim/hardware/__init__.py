"""Scripted GPUs: one state file a node, and everything a driver and a kernel would show of it.

May live here: the state file and its readers: kernel log, sysfs, driver files, and the backend of the NVML worker. May
not: anything about Kubernetes.
"""
