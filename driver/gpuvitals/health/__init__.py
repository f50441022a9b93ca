"""The health fold: from signals to the state of a GPU, and from the state to a verdict. Pure.

`evaluate` folds a signal, `advance` folds elapsed time, `verdict` judges the state. `fault_classes` and `xid_rules` decide
which faults isolate a GPU, `clearing` how they end, and `witnesses` how certain they are.

This package holds pure functions over frozen dataclasses; time is an argument (`Moment`). It uses no clocks, files,
threads, logs, network or third-party modules.
"""
