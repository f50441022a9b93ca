"""Representations of objects and of the API: tables, discovery, OpenAPI, version and health documents.

May live here: read-only views. May not: anything that changes an object.
"""
