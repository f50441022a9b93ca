"""The decision core of the controller: which step against which incident, or the gates against it. Pure.

`incident` joins faults with their remediations; `cures` and `scope` choose the steps that can heal them.

May live here: pure functions from a `World` and a time to decisions. May not: API dicts, clocks, files, threads, logs,
the network.
"""
