"""The Kubernetes API server: transport, watches, and one module a kind that is written.

The only importer of the `kubernetes` package, which is used for its transport and credentials alone: bodies are raw
JSON in both directions. May live here: encoding and decoding of API objects, and level-triggered writers. May not:
decisions about health; API dicts never leave.
"""
