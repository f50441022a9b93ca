"""Where faults are heard: the kernel log, NVML through a child process, and sysfs.

May live here: readers, their pure parsers, and the NVML worker. May not: judgement. A source reports what it saw, says
when it can't see, and never drops a record without counting it.
"""
