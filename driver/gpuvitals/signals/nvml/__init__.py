"""NVML as a source of signals, the agent's side: `monitor` schedules polls and decodes answers.

May live here: everything around the worker process that calls the library, and its deadlines. May not: pynvml.
"""
