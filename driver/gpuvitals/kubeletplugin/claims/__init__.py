"""Preparing and releasing claims: `plan` decides, `preparer` acts, `reconciler` keeps files and API server in step.

May live here: the order of calls for a claim and the decision which devices it gets. May not: gRPC, file formats.
"""
