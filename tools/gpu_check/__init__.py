"""`make gpu-check`: records the answers of NVML on a real NVIDIA GPU, and the agent's verdicts on them.

It reads only, and needs no network. The report has no serial numbers and no UUIDs.
"""
