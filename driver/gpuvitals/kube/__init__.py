"""The Kubernetes API server: transport, watches, and writers of each kind of object.

The only importer of the `kubernetes` package, which serves for kubeconfigs and exec alone: bodies are raw JSON in both
directions. May live here: encoding and decoding of API objects, and level-triggered writers. May not: decisions about
health; API dicts never leave.
"""
