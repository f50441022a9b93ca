"""How objects and the API itself are shown: tables, discovery, OpenAPI, version and health documents.

May live here: read-only views for people and for kubectl. May not: anything that changes an object.
"""
