"""The checks of a node before and while it runs the agent. Each uses the agent's own parts, and writes nothing.

A check never raises and always ends. No judgement of a GPU's health here: `explain` has that.
"""
