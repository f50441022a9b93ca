"""The fold: from signals to the state of a GPU, and from the state to a verdict. Pure.

`evaluate` folds a signal, `advance` folds the passing of time, `verdict` judges. `fault_classes` is the table that
answers "why was my GPU isolated", `clearing` "what brings it back", `witnesses` "how sure is that". May live here: pure functions over frozen dataclasses; time comes in as a Moment.
May not: clocks, files, threads, logs, the network, any third-party module.
"""
