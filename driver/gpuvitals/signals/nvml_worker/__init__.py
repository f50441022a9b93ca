"""The NVML worker: the child process that calls the library, so that a call that never returns blocks only it.

The only package that imports pynvml. May live here: calls and the wire format of their answers. May not: the model.
"""
