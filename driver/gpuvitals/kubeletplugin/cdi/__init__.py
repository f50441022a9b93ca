"""CDI: the spec files of prepared claims, and the driver files and device nodes in them.

May live here: search for driver files, composition and storage of specs. May not: the checkpoint file, gRPC.
"""
