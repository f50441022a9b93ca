"""The node's ResourceSlices: `plan` compares desired with stored, `publisher` writes, `view` reads for people.

May live here: the wire form of slices, their reading and writing. May not: decisions about the content of a pool.
"""
