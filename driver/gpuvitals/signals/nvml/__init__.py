"""NVML as a source of signals, in the agent's process: `monitor` polls GPUs and events through a worker process.

May live here: everything around the worker process that calls the library, with deadlines. May not: pynvml.
"""
