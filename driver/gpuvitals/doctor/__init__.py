"""Checks of a node, before and while it runs the agent. Each uses the agent's own code and writes nothing.

A check raises nothing and always ends. GPU health is not judged here; `explain` reports it.
"""
