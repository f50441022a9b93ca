"""The NVML worker: a child process that calls the library, so that a call that never returns blocks only this process.

The only package that imports pynvml. May live here: calls, and the wire format of their answers. May not: judgement, and
anything that the agent's process must not load.
"""
