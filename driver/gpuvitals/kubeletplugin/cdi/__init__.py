"""CDI: the spec files of prepared claims, and the driver files and device nodes that they name.

May live here: finding, composing and writing. May not: the checkpoint, gRPC.
"""
