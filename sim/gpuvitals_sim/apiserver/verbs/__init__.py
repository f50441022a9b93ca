"""The operations on objects: get, list, watch, create, update, patch, delete, evict, bind.

May live here: the order of steps of each verb. May not: HTTP, and the rules of single kinds (see `strategy`).
"""
