"""`make gpu-check`: records on a real NVIDIA GPU what NVML answers and what the agent makes of it.

It reads only, and needs no network. The report has no serial numbers and no UUIDs.
"""
