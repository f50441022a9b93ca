"""Preparing and releasing claims: `plan` decides, `preparer` acts, `reconciler` compares files and API server.

May live here: the order of a claim's calls and the choice of its devices. May not: gRPC, file formats.
"""
