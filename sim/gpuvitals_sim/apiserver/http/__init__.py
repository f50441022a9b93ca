"""The API server's HTTP side: sockets, paths, content types, streams.

May live here: translation between HTTP and the calls of `api.Api`. May not: the meaning of a verb.
"""
