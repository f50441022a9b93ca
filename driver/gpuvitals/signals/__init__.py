"""Sources of signals: the kernel log, NVML through a child process, sysfs, the DCGM exporter and external reports.

May live here: readers, their pure parsers, and the NVML worker. May not: judgement. A source reports its observations
and its own outages, and counts every record that it drops.
"""
