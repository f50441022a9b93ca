"""The composition root of the node agent: long-lived parts are constructed here and nowhere else.

May live here: the construction of parts, their connections, the order of starts and stops. May not: decisions, locks,
parsing, protocols.
"""
