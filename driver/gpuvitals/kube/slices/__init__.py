"""The node's ResourceSlices: `plan` compares desired with stored, `publisher` writes, `view` reads for people.

May live here: the wire form of slices and all of their reading and writing. May not: what a pool should contain.
"""
